//! Questions at the terminal. A signal while one is asked gives the terminal back as it was.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use zeroize::Zeroizing;

use super::error::{CliError, Kind};
use super::secret::Secret;

/// Whether the answer is seen while it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    /// As anything typed.
    Shown,
    /// A password.
    Hidden,
}

/// Asks at the terminal; none if there is no terminal, or we are not in its foreground, where a
/// question would only stop us until somebody notices.
pub(crate) fn prompt(question: &str, echo: Echo) -> Result<Option<Secret>, CliError> {
    let mut options = std::fs::OpenOptions::new();
    let Ok(mut terminal) = options.read(true).write(true).open("/dev/tty") else {
        return Ok(None);
    };
    let foreground = tcgetpgrp(terminal.as_fd()).ok();
    let (Some(_), Ok(before)) =
        (foreground.filter(|group| *group == getpgrp()), tcgetattr(terminal.as_fd()))
    else {
        return Ok(None);
    };
    let failed =
        |error: io::Error| CliError::new(Kind::Failed, "ask at the terminal").because(error);
    let mut during = before.clone();
    during.local_modes.insert(LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
    during.local_modes.set(LocalModes::ECHO, echo == Echo::Shown);
    let guard = EchoGuard { terminal: terminal.try_clone().map_err(failed)?, before };
    *question_asked() = Some(guard);
    let mut answer = || {
        tcsetattr(terminal.as_fd(), OptionalActions::Flush, &during)?;
        terminal.write_all(question.as_bytes())?;
        read_line(&mut terminal)
    };
    let line = answer();
    let _ = end_question();
    line.map_err(failed)
}

/// Asks for a yes; anything but `y` or `yes` is no, and so is nobody there to ask.
pub(crate) fn ask(question: &str) -> Result<bool, CliError> {
    let answer = prompt(&format!("{question} [y/N] "), Echo::Shown)?.unwrap_or_default();
    Ok(matches!(answer.trim_ascii().to_ascii_lowercase().as_slice(), b"y" | b"yes"))
}

/// The question that is being asked; a signal meanwhile has to give the terminal back.
static QUESTION: Mutex<Option<EchoGuard>> = Mutex::new(None);

fn question_asked() -> MutexGuard<'static, Option<EchoGuard>> {
    QUESTION.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the terminal back to whoever had it; says whether a question was being asked.
pub(crate) fn end_question() -> bool {
    question_asked().take().is_some()
}

/// Shows what is typed again, however the question ended.
struct EchoGuard {
    terminal: File,
    before: Termios,
}

impl Drop for EchoGuard {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal.as_fd(), OptionalActions::Now, &self.before);
    }
}

/// One line, byte by byte, so that nothing stays in a buffer; none at the end of input.
fn read_line(terminal: &mut impl io::Read) -> io::Result<Option<Secret>> {
    const LINE_LEN_MAX: usize = 4096;
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_LEN_MAX));
    let mut byte = [0];
    loop {
        match terminal.read(&mut byte) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => return Ok(Some(line)),
            Ok(_) if byte[0] == b'\n' => return Ok(Some(line)),
            Ok(_) if line.len() == LINE_LEN_MAX => {
                return Err(io::Error::other("the line is too long"));
            }
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_newline_or_end_of_input() {
        let line = |input: &[u8]| read_line(&mut &*input).expect("read").map(|line| line.to_vec());
        assert_eq!(line(b"ab\ncd"), Some(b"ab".to_vec()));
        assert_eq!(line(b"ab"), Some(b"ab".to_vec()));
        assert_eq!(line(b""), None);
        assert_eq!(line(b"\n"), Some(Vec::new()));
        assert!(read_line(&mut vec![b'x'; 5000].as_slice()).is_err());
    }
}
