//! What a source holds now, at its path on this machine.

use std::path::PathBuf;
use std::sync::Arc;

use volume_vault::docker::DockerError;
use volume_vault::event::Observer;
use volume_vault::near::{did_you_mean, near_names};
use volume_vault::source::{Directory, DirectoryOptions, Selection, Source};

use super::context::Context;
use super::engine::connect;
use super::error::{CliError, Kind};
use super::names::SourceName;

/// The folder on this machine that holds a volume's files.
///
/// Errors: not found, with near names; failed, where the files cannot be reached by a path.
pub(crate) fn volume_path(name: &str, context: &Context) -> Result<PathBuf, CliError> {
    let engine = connect(context)?;
    let volume = match engine.volume(name) {
        Ok(volume) => volume,
        Err(error @ DockerError::NotFound { .. }) => {
            let volumes = engine.volumes().map(|list| list.volumes).unwrap_or_default();
            let near = near_names(name, volumes.iter().map(|volume| volume.name.as_str()));
            return Err(CliError::from(error).object(name).hint_if(did_you_mean(&near)));
        }
        Err(error) => return Err(error.into()),
    };
    engine.host_path(&volume).map_err(|why| {
        let message = format!("volume `{name}` cannot be used by its path on this machine");
        CliError::new(Kind::Failed, message).object(name).because(why).hint(
            "this version needs that here: run it as root on the machine of the docker engine",
        )
    })
}

/// Opens what a source holds now.
///
/// Errors: those of [`volume_path`] and of opening a directory; usage, for a stream.
pub(crate) fn open_live(
    source: &SourceName,
    context: &Context,
    observer: Arc<dyn Observer>,
) -> Result<Box<dyn Source>, CliError> {
    let path = match source {
        SourceName::Volume(name) => volume_path(name, context)?,
        SourceName::Directory(path) => path.clone(),
        SourceName::Stdin { .. } => {
            return Err(CliError::usage("standard input has no present state to compare"));
        }
    };
    let options = DirectoryOptions { clock: context.clock, selection: Selection::all() };
    Ok(Box::new(Directory::open(&path, options, observer)?))
}
