//! Runs other programs so that none of them can hang the build.
//!
//! Output goes to unnamed temporary files rather than pipes: a grandchild that outlives its parent
//! then can't keep us waiting, and no reader thread is needed. Only the direct child is ended when
//! its time is up; it stays in our process group, so that Ctrl-C reaches it.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

/// A quick question to a local program: far beyond what it takes on a slow, busy machine.
pub const QUESTION: Duration = Duration::from_secs(30);

/// Of what a program printed, no more than this is read back.
const MAX_OUTPUT: u64 = 64 << 20;

/// Lines of a failed program's complaint that become part of the error.
const COMPLAINT_LINES: usize = 4;

/// Where a program's standard error goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Messages {
    /// Kept, and quoted if the program fails.
    Kept,
    /// Straight to the user, for programs that show progress of their own.
    Shown,
}

/// Runs `command` to its end and returns its standard output.
///
/// # Errors
/// When the program isn't there, fails, or isn't done after `limit`; it is killed then.
pub fn run(command: &mut Command, limit: Duration, messages: Messages) -> Result<String> {
    let name = name_of(command);
    let stdout = tempfile::tempfile().context("cannot make a temporary file")?;
    let stderr = tempfile::tempfile().context("cannot make a temporary file")?;
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?);
    match messages {
        Messages::Kept => command.stderr(stderr.try_clone()?),
        Messages::Shown => command.stderr(Stdio::inherit()),
    };
    let status = match wait(command, limit) {
        Ok(status) => status,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("`{}` isn't installed", program_of(command))
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            bail!("`{name}` wasn't done after {} s", limit.as_secs())
        }
        Err(error) => return Err(anyhow!(error).context(format!("cannot run `{name}`"))),
    };
    if !status.success() {
        let complaint = match messages {
            Messages::Kept => complaint(&read_back(stderr)?),
            Messages::Shown => "its own messages are above".to_owned(),
        };
        bail!("`{name}` failed ({status}): {complaint}");
    }
    read_back(stdout)
}

/// The first program of these names on the search path.
pub fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    names.iter().find_map(|name| {
        folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file())
    })
}

fn wait(command: &mut Command, limit: Duration) -> io::Result<ExitStatus> {
    let deadline = Instant::now() + limit;
    let mut child = command.spawn()?;
    // Short programs shouldn't cost a visible pause, long ones no CPU.
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

fn program_of(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    program.to_string_lossy().into_owned()
}

/// The program with its first argument, as people name it: `cargo build`, `rustup target`.
fn name_of(command: &Command) -> String {
    let mut name = program_of(command);
    if let Some(verb) = command.get_args().find(|argument| is_word(argument)) {
        name = format!("{name} {}", verb.to_string_lossy());
    }
    name
}

fn is_word(argument: &OsStr) -> bool {
    argument.to_str().is_some_and(|text| text.bytes().all(|b| b.is_ascii_lowercase()))
}

fn read_back(mut file: File) -> Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(MAX_OUTPUT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What is wrong: the first line marked as an error with those after it, otherwise the last ones.
fn complaint(messages: &str) -> String {
    let lines: Vec<&str> =
        messages.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_marked = |line: &&str| line.starts_with("error") || line.starts_with("E: ");
    let first = lines.iter().position(is_marked);
    let first = first.unwrap_or_else(|| lines.len().saturating_sub(COMPLAINT_LINES));
    let chosen: Vec<&str> = lines[first..].iter().take(COMPLAINT_LINES).copied().collect();
    if chosen.is_empty() { "it gave no reason".to_owned() } else { chosen.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_ended() {
        let begun = Instant::now();
        let mut sleep = Command::new("sleep");
        let error =
            run(sleep.arg("60"), Duration::from_millis(50), Messages::Kept).expect_err("too slow");
        assert!(error.to_string().contains("wasn't done"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program"), QUESTION, Messages::Kept);
        assert_eq!(error.expect_err("missing").to_string(), "`no-such-program` isn't installed");
    }

    #[test]
    fn a_failure_quotes_the_error_and_not_the_chatter() {
        let mut sh = Command::new("sh");
        sh.args(["-c", "echo info: busy >&2; echo error: no route >&2; echo bye >&2; exit 3"]);
        let error = run(&mut sh, QUESTION, Messages::Kept).expect_err("fails").to_string();
        assert!(error.contains("error: no route"), "{error}");
        assert!(!error.contains("busy"), "{error}");
    }

    #[test]
    fn a_silent_failure_is_still_explained() {
        let error = run(&mut Command::new("false"), QUESTION, Messages::Kept).expect_err("fails");
        assert!(error.to_string().contains("gave no reason"), "{error}");
    }
}
