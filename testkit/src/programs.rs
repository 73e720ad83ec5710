//! Finds the server's programs, and makes a new data directory in little time.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use rustix::fs::{FlockOperation, flock};

const OLDEST: u32 = 15;

/// The programs of one Postgres version, and who may run them.
#[derive(Debug)]
pub(crate) struct Programs {
    bin: PathBuf,
    /// `postgres --version`.
    version: String,
    /// The user that the server runs as, where we are root, whom it refuses.
    user: Option<String>,
}

/// Finds them once.
pub(crate) fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(find)
}

fn find() -> Programs {
    let mut places: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    if let Some(bin) = output_of(Command::new("pg_config").arg("--bindir")) {
        places.push(PathBuf::from(bin));
    }
    let newest = places
        .into_iter()
        .filter_map(|bin| {
            let version = output_of(Command::new(bin.join("postgres")).arg("--version"))?;
            let major: u32 = version
                .split_whitespace()
                .nth(2)?
                .split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse()
                .ok()?;
            let whole = bin.join("initdb").exists() && bin.join("pg_isready").exists();
            (major >= OLDEST && whole).then_some((major, bin, version))
        })
        .max();
    let Some((_, bin, version)) = newest else {
        panic!(
            "these tests need Postgres {OLDEST} or later: install postgresql (Debian: apt-get install postgresql)"
        );
    };
    let user = rustix::process::geteuid().is_root().then(|| {
        ["postgres", "nobody"]
            .into_iter()
            .find(|user| output_of(Command::new("id").args(["-u", user])).is_some())
            .unwrap_or_else(|| {
                panic!("Postgres refuses to run as root, and there is no user 'postgres' or 'nobody'")
            })
            .to_owned()
    });
    Programs { bin, version, user }
}

fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Programs {
    /// One of the programs, run as we are.
    pub(crate) fn plain(&self, program: &str) -> Command {
        Command::new(self.bin.join(program))
    }

    /// One of the programs, run as the server's user. Its pid is the child's: `setpriv` and `env` become the program.
    pub(crate) fn as_server(&self, program: &str) -> Command {
        self.as_server_under(program, &[])
    }

    /// [`Programs::as_server`] with further environment variables, which concern the program alone.
    pub(crate) fn as_server_under(&self, program: &str, environment: &[(String, String)]) -> Command {
        let Some(user) = &self.user else {
            let mut command = self.plain(program);
            command.envs(environment.iter().map(|(name, value)| (name, value)));
            return command;
        };
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--regid", &self.group(user), "--clear-groups", "--", "env"]);
        command.args(environment.iter().map(|(name, value)| format!("{name}={value}")));
        command.arg(self.bin.join(program));
        command
    }

    fn group(&self, user: &str) -> String {
        output_of(Command::new("id").args(["-g", user]))
            .unwrap_or_else(|| panic!("user {user} of {} has no group", self.version))
    }

    /// Gives a path to the server's user.
    pub(crate) fn own(&self, path: &Path) {
        if let Some(user) = &self.user {
            run(Command::new("chown").arg(format!("{user}:")).arg(path));
        }
    }

    /// Makes a data directory at `data`: `initdb` takes seconds, so it runs once per version and is copied.
    pub(crate) fn new_data(&self, data: &Path) {
        let template = self.template();
        run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(template).arg(data));
    }

    /// Makes a data directory at `data` that follows the server on a port of this machine.
    pub(crate) fn copy_of_server(&self, port: u16, data: &Path) {
        run(self
            .as_server("pg_basebackup")
            .args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"])
            .arg("--dbname")
            .arg(format!("host=127.0.0.1 port={port} user=postgres application_name=standby"))
            .arg("--pgdata")
            .arg(data)
            .current_dir("/"));
    }

    fn template(&self) -> PathBuf {
        let cache = target_dir().join("testkit");
        fs::create_dir_all(&cache).unwrap_or_else(|error| panic!("cannot make {}: {error}", cache.display()));
        let name: String = self
            .version
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
            .collect();
        let template = cache.join(format!("{name}-1"));
        let lock = File::create(cache.join("lock"))
            .unwrap_or_else(|error| panic!("cannot make a lock file: {error}"));
        flock(&lock, FlockOperation::LockExclusive).unwrap_or_else(|error| panic!("cannot lock: {error}"));
        if !template.exists() {
            // The cache may lie where the server's user may not go, so it is made elsewhere and copied here.
            let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("cannot make a directory: {error}"));
            self.own(dir.path());
            let data = dir.path().join("data");
            run(self
                .as_server("initdb")
                .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
                .arg("--pgdata")
                .arg(&data)
                .current_dir("/"));
            let half = cache.join(format!("{name}-half"));
            let _ = fs::remove_dir_all(&half);
            run(Command::new("cp").arg("-a").arg(&data).arg(&half));
            fs::rename(&half, &template).unwrap_or_else(|error| panic!("cannot keep the template: {error}"));
        }
        template
    }
}

/// The build directory that this test was built in.
fn target_dir() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|exe| exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists()).map(Path::to_owned))
        .unwrap_or_else(std::env::temp_dir)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
}
