//! Programs as processes of their own, each in a process group that ends with the test, however that ends.

use std::{
    fs::File,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::{Instant, sleep};

/// Ends the group, and what its first process has started in other groups, unless it is told, before its standard
/// input ends, that this was done already.
const KEEPER: &str = r#"
trap '' INT TERM HUP
if ! read -r done; then
    children=$(cat "/proc/$1"/task/*/children 2>/dev/null)
    kill -s KILL -- "-$1" $children
fi
"#;

/// How often the end of a process is looked for.
const PAUSE: Duration = Duration::from_millis(10);

/// What a failed test shows of each log.
const TAIL_LINES: usize = 40;

/// A running program, the first of a process group. The group is killed when this value is dropped, or when the test
/// process dies in any way. Its output goes to files, whose ends are shown when the test fails.
#[derive(Debug)]
pub struct Process {
    name: String,
    group: Pid,
    child: Mutex<Child>,
    stdout: PathBuf,
    stderr: PathBuf,
    keeper: Child,
    pipe: Option<ChildStdin>,
}

impl Process {
    /// Starts a program. Of this process's environment it gets `PATH` alone, with what `command` adds. Its output
    /// goes to files in `dir` that are named after `name` and are new with each start.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, dir: &Path, command: &mut Command) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = |kind: &str| dir.join(format!("{name}-{number}.{kind}"));
        let (stdout, stderr) = (path("stdout"), path("stderr"));
        let create = |path: &Path| {
            File::create(path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()))
        };
        let own: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        let child = command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(own)
            .stdin(Stdio::null())
            .stdout(create(&stdout))
            .stderr(create(&stderr))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let group = Pid::from_child(&child);
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", &group.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Not ended together with the tests by Ctrl-C.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run sh: {error}"));
        let pipe = keeper.stdin.take();
        Self { name: name.to_owned(), group, child: Mutex::new(child), stdout, stderr, keeper, pipe }
    }

    /// The number of the first process.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// When the system does not say.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().unwrap_or_else(|error| panic!("{}: no status: {error}", self.name))
    }

    /// Sends a signal to the first process, not to those that it started.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        let status = self.ended();
        assert!(status.is_none(), "{} has ended: {status:?}", self.name);
        kill_process(self.group, signal)
            .unwrap_or_else(|error| panic!("{}: cannot send a signal: {error}", self.name));
    }

    /// Sends a signal to the whole group, as a terminal does.
    ///
    /// # Panics
    /// When the first process has ended.
    pub fn signal_group(&self, signal: Signal) {
        let status = self.ended();
        assert!(status.is_none(), "{} has ended: {status:?}", self.name);
        kill_process_group(self.group, signal)
            .unwrap_or_else(|error| panic!("{}: cannot send a signal: {error}", self.name));
    }

    /// Kills the first process and waits until it is gone.
    ///
    /// # Panics
    /// When it has ended before.
    pub async fn kill_9(&self) {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(5)).await;
    }

    /// Waits for the end of the first process.
    ///
    /// # Panics
    /// When it has not ended at the deadline.
    pub async fn wait(&self, deadline: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(start.elapsed() < deadline, "{} did not end within {deadline:?}", self.name);
            sleep(PAUSE).await;
        }
    }

    /// The processes that it started, and those that these started, as far as they run.
    ///
    /// # Panics
    /// Where there is no `/proc`.
    pub fn descendants(&self) -> Vec<u32> {
        let processes = std::fs::read_dir("/proc").unwrap_or_else(|error| panic!("no /proc: {error}"));
        let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
        let mut found = vec![self.pid()];
        let mut next = 0;
        while let Some(of) = found.get(next).copied() {
            found.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
            next += 1;
        }
        found.split_off(1)
    }

    /// What it wrote to its standard output.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it wrote to its standard error.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Some of them may have groups of their own.
        let descendants =
            if matches!(self.child().try_wait(), Ok(None)) { self.descendants() } else { Vec::new() };
        for pid in descendants.into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, Signal::KILL);
        }
        // Those that it started may be left although it has ended; while one is, the number stays the group's.
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child().wait();
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.keeper.wait();
        if std::thread::panicking() {
            let stderr = self.stderr();
            let lines: Vec<_> = stderr.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
            eprintln!("--- standard error of {} (its last {TAIL_LINES} lines)\n{tail}\n---", self.name);
        }
    }
}

/// The parent of a process that runs.
fn parent(pid: u32) -> Option<u32> {
    // proc(5): the name, which may hold anything, ends at the last bracket; then state and parent.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(") ").next()?.split(' ');
    (fields.next()? != "Z").then_some(())?;
    fields.next()?.parse().ok()
}

fn read(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
