//! Ends the server and removes its files when the test process is gone, however it went.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

/// Reads until the test process is gone (its end of the pipe is closed by the system), then ends the server whose
/// number is in its pid file: only if it is ours still, as its command line tells.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
dir=$1
cat >/dev/null
pid=$(head -n 1 "$dir/data/postmaster.pid" 2>/dev/null)
ours() { [ -n "$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$dir/data"; }
if ours; then
    kill -CONT "$pid" 2>/dev/null
    kill -QUIT "$pid" 2>/dev/null
    for _ in $(seq 100); do ours || break; sleep 0.05; done
    ours && kill -KILL "$pid" 2>/dev/null
fi
for _ in $(seq 20); do rm -rf "$dir" 2>/dev/null; [ -e "$dir" ] || break; sleep 0.1; done
"#;

/// A shell that waits for the end of this process.
#[derive(Debug)]
pub(crate) struct Keeper {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Keeper {
    /// Keeps the server whose data directory is, or will be, `dir/data`.
    pub(crate) fn of(dir: &Path) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "keeper"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // Not ended together with the tests by Ctrl-C.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run sh: {error}"));
        let pipe = shell.stdin.take();
        Self { shell, pipe }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.shell.wait();
    }
}
