//! Ctrl-C and its relatives: first a flag that operations look at, then an end at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::error::{CliError, Kind};
use super::{output, prompt};

/// Sets the flag at the first SIGINT, SIGTERM or SIGHUP and ends the process at the second.
///
/// A question at the terminal ends at the first one: nothing has begun, and a read of the terminal
/// would not look at the flag. SIGPIPE is ignored, as Rust programs start with.
pub(crate) fn watch() -> Result<Arc<AtomicBool>, CliError> {
    let failed = |error| CliError::new(Kind::Failed, "watch for signals").because(error);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let watch = move || {
        for _ in signals.forever() {
            let again = flag.swap(true, Ordering::SeqCst);
            if again || prompt::end_question() {
                std::process::exit(i32::from(Kind::Interrupted.code()));
            }
            output::notice("stopping; press Ctrl-C again to stop at once");
        }
    };
    let spawned = std::thread::Builder::new().name("signals".to_owned()).spawn(watch);
    let _ = spawned.map_err(failed)?;
    Ok(interrupted)
}
