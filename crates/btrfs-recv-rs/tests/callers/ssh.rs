//! btrbk over ssh, with its filter for commands on the other side.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use btrfs_testkit::{Test, subvolume};

use crate::btrbk::{
    Backend, Btrbk, assert_backed_up, assert_incremental, change, host, names, target, which,
};
use crate::daemon::Daemon;
use crate::shim::install;

const FILTER: &str = "/usr/share/btrbk/scripts/ssh_filter_btrbk.sh";
const COMMAND: &str = env!("CARGO_BIN_EXE_btrfs-recv-rs");

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::on_btrfs("btrbk_over_ssh_there_and_back", there_and_back).needs("btrbk")]
}

/// A server that lets keys in, each for one command.
pub(crate) struct Server {
    port: u16,
    _daemon: Daemon,
}

impl Server {
    /// Lets in keys by these names, each for its command.
    pub(crate) fn start(btrbk: &Btrbk, keys: &[(&str, String)]) -> Self {
        let mut allowed = String::new();
        make_key(btrbk, "host_key");
        for (key, command) in keys {
            let public = make_key(btrbk, key);
            allowed += &format!("restrict,command=\"{command}\" {public}");
        }
        fs::write(btrbk.join("authorized_keys"), allowed).unwrap();
        // Somebody else can take a port that was free.
        let started = (0..5).find_map(|_| Self::on_port(btrbk, free_port()));
        started.expect("sshd listens")
    }

    fn on_port(btrbk: &Btrbk, port: u16) -> Option<Self> {
        let place = btrbk.join("");
        let place = place.to_str().unwrap().trim_end_matches('/');
        let configuration = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {place}/host_key\nPidFile none\n\
             AuthorizedKeysFile {place}/authorized_keys\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin forced-commands-only\n\
             SetEnv BTRFS_RECV_RS_BTRFS={place}/remote/btrfs\n"
        );
        fs::write(btrbk.join("sshd_config"), configuration).unwrap();
        // The filter has a PATH of its own: the command has to be the btrfs
        // in there.
        let script = format!(
            "mkdir -p /run/sshd && mount --bind {COMMAND} {} && exec {} -D -e -f {place}/sshd_config",
            fs::canonicalize(which("btrfs")).unwrap().display(),
            // It wants to be called by its full path.
            which("sshd").display(),
        );
        let mut daemon = Daemon::start(
            Daemon::command()
                .args(["sh", "-c", &script])
                .stdin(Stdio::null())
                .stderr(Stdio::piped()),
        );
        let mut lines = BufReader::new(daemon.child().stderr.take().unwrap()).lines();
        lines.by_ref().map_while(Result::ok).find(|line| {
            println!("sshd: {line}");
            line.starts_with("Server listening on")
        })?;
        // Else it would wait for somebody to read.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let key = fs::read_to_string(btrbk.join("host_key.pub")).unwrap();
        let known = format!("[127.0.0.1]:{port} {key}");
        fs::write(btrbk.join("known_hosts"), known).unwrap();
        Some(Self {
            port,
            _daemon: daemon,
        })
    }

    /// The port on the loopback interface.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How btrbk names a path on the other side.
    pub(crate) fn url(&self, path: &Path) -> String {
        format!("ssh://127.0.0.1:{}{}", self.port, path.display())
    }
}

/// Makes a key; returns its public part.
fn make_key(btrbk: &Btrbk, name: &str) -> String {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(btrbk.join(name))
        .stdin(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    fs::read_to_string(btrbk.join(&format!("{name}.pub"))).unwrap()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A btrbk that logs in to such a server.
pub(crate) fn client() -> Btrbk {
    let btrbk = Btrbk::new(Backend::Shim);
    fs::create_dir(btrbk.join("remote")).unwrap();
    // The real program, which the command hides on the other side, and which
    // must not be what receives there.
    install(&which("btrfs"), &btrbk.join("remote/progs"));
    let real = btrbk.join("remote/progs");
    btrbk.program(
        "remote/btrfs",
        &format!(
            "case \"$*\" in *receive*) echo ERROR: the wrong receive >&2; exit 1;; esac\n\
             exec {} \"$@\"\n",
            real.display()
        ),
    );
    let configuration = format!(
        "UserKnownHostsFile {}\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\n\
         BatchMode yes\nIdentitiesOnly yes\nIdentityAgent none\n",
        btrbk.join("known_hosts").display()
    );
    fs::write(btrbk.join("ssh_config"), configuration).unwrap();
    let ssh = format!(
        "exec {} -F {} \"$@\"\n",
        which("ssh").display(),
        btrbk.join("ssh_config").display()
    );
    btrbk.program("ours/ssh", &ssh);
    btrbk
}

/// In full and in increments to the other host; there the backup is put into
/// use, and comes back.
fn there_and_back() {
    let from = host();
    let (to, backup) = target();
    let btrbk = client();
    let returned = from.path().join("returned");
    for directory in [
        from.path().join("snapshots"),
        to.path().join("snapshots"),
        returned.clone(),
    ] {
        fs::create_dir(directory).unwrap();
    }
    let filter = format!(
        "{FILTER} --source --target --delete --info -p {} -p {}",
        to.path().display(),
        from.path().display()
    );
    let server = Server::start(&btrbk, &[("key", filter)]);
    let settings = format!(
        "ssh_user root\nssh_identity {}\n",
        btrbk.join("key").display()
    );
    let run = |volume: &str, target: &str| {
        btrbk.run_with("run", &settings, (volume, target), &["ours", "real"])
    };
    let here = from.path().to_str().unwrap();
    let mut last = None;
    for round in 0..2 {
        change(&from.path().join("work"), round);
        let output = run(here, &server.url(&backup));
        let (_, copy) = assert_backed_up(&output, from.path(), &backup);
        assert_incremental(&copy, round > 0);
        last = Some(copy);
    }
    assert_eq!(names(&backup).len(), 2);
    let work = subvolume::snapshot_writable(&last.unwrap(), &to.path().join("work"));
    change(&work, 3);
    let output = run(&server.url(to.path()), returned.to_str().unwrap());
    let (_, copy) = assert_backed_up(&output, to.path(), &returned);
    assert_incremental(&copy, true);
    // And there once more.
    let work = from.path().join("work");
    fs::rename(&work, from.path().join("old")).unwrap();
    subvolume::snapshot_writable(&copy, &work);
    change(&work, 4);
    let output = run(here, &server.url(&backup));
    let (_, copy) = assert_backed_up(&output, from.path(), &backup);
    assert_incremental(&copy, true);
}
