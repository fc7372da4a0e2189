//! Removes helpers that killed runs left behind.
//!
//! A helper whose run still lives is never touched, one whose run is gone goes at once, and one of
//! which nothing can be known, such as another machine's on a shared engine, after a day.

use bollard::models::ContainerSummary;

use super::engine::Engine;
use super::error::DockerError;
use super::helper::{HELPER_LABEL, RUN_LABEL, remove_container};
use super::run::Fate;
use super::volume::Container;
use crate::clock::Clock;

/// After so many seconds a helper of unknown origin counts as left behind.
const AGE_MAX: i64 = 24 * 3600;

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Helpers removed.
    pub removed: Vec<Container>,
    /// Helpers that belong to runs which may still need them.
    pub kept: Vec<Container>,
    /// Helpers that could not be removed.
    pub failed: Vec<(Container, DockerError)>,
}

/// Removes the helpers in `engine` that no run needs any more.
///
/// Errors: only if they cannot be listed.
pub fn sweep(engine: &Engine, clock: Clock) -> Result<Swept, DockerError> {
    let mut swept = Swept::default();
    for summary in engine.containers("label", &format!("{HELPER_LABEL}=1"))? {
        let unneeded = is_unneeded(engine, &summary, clock.now().seconds);
        let container = Container::from(summary);
        if !unneeded {
            swept.kept.push(container);
            continue;
        }
        match remove_container(engine, &container.id) {
            Ok(()) => swept.removed.push(container),
            Err(error) => swept.failed.push((container, error)),
        }
    }
    Ok(swept)
}

fn is_unneeded(engine: &Engine, summary: &ContainerSummary, now: i64) -> bool {
    let label = summary.labels.as_ref().and_then(|labels| labels.get(RUN_LABEL));
    match engine.run().fate_of(label.map_or("", String::as_str)) {
        Fate::Alive => false,
        Fate::Gone => true,
        Fate::Unknown => {
            summary.created.is_some_and(|created| now.saturating_sub(created) > AGE_MAX)
        }
    }
}
