//! Images of helpers: made here, loaded into the engine, never pulled.
//!
//! Nothing from scratch but a few files, with constant times, so its ids are the same wherever it
//! is made. One holds a small text and is never run; it only lets the engine mount a volume. The
//! other holds this program. They are used by id, never by their tags, so that nobody can put
//! another image in their place.

use std::collections::HashMap;

use bollard::models::ImageInspect;
use bollard::query_parameters::{
    ImportImageOptions, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
};
use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

use super::bridge;
use super::digest::sha256_hex;
use super::engine::Engine;
use super::error::{DockerError, status};
use super::program::Program;

/// The tag under which the image is seen; it keeps the image from being pruned as nameless.
const TAG: &str = "volume-vault-helper:1";

/// The name of images with this program; each build has a tag of its own.
const AGENT_NAME: &str = "volume-vault-agent";

/// Marks images with this program, so that those of other builds are found.
const AGENT_LABEL: &str = "volume-vault.agent";

/// Modes of files in an image.
const TEXT_MODE: u32 = 0o444;
const PROGRAM_MODE: u32 = 0o555;

/// Changing this changes the image and needs another tag.
const NOTE: &[u8] = b"Mounts a volume for volume-vault. Never started.\n";

/// Path of the only file in the image.
const NOTE_PATH: &str = "volume-vault";

/// The command of containers; it cannot be run.
pub(super) const COMMAND: &str = "/volume-vault";

struct Image {
    /// Its tag.
    tag: String,
    /// Digest of the configuration: its id in engines without the containerd store.
    id: String,
    /// Digest of its only layer.
    layer: String,
    /// The archive to load.
    archive: Vec<u8>,
}

/// The id of the helper image in `engine`, which is loaded if it is missing.
pub(super) fn ensure(engine: &Engine) -> Result<String, DockerError> {
    ensure_image(engine, &build(&engine.info().arch)?)
}

/// The id of the image with this program in `engine`, which is loaded if it is missing; those of
/// other builds that nothing uses go.
pub(super) fn ensure_agent(engine: &Engine, program: &Program) -> Result<String, DockerError> {
    let image = build_agent(program)?;
    if let Some(id) = find(engine, &image)? {
        return Ok(id);
    }
    let id = ensure_image(engine, &image)?;
    remove_other_builds(engine, &image);
    Ok(id)
}

fn ensure_image(engine: &Engine, image: &Image) -> Result<String, DockerError> {
    if let Some(id) = find(engine, image)? {
        return Ok(id);
    }
    let loaded = load(engine, image);
    // another run may load it at the same time, which the containerd store reports as a failure of
    // one of them; what counts is whether it is there
    find(engine, image)?.ok_or_else(|| loaded.err().unwrap_or_else(not_ours))
}

/// Removes images of other builds; one that is in use stays, and goes with a later build.
fn remove_other_builds(engine: &Engine, image: &Image) {
    let label = HashMap::from([("label", vec![AGENT_LABEL])]);
    let options = ListImagesOptionsBuilder::new().filters(&label).build();
    let Ok(images) = engine.call(engine.control().list_images(Some(options))) else { return };
    for tag in images.into_iter().flat_map(|image| image.repo_tags) {
        if tag.starts_with(AGENT_NAME) && tag != image.tag {
            let options = RemoveImageOptionsBuilder::new().force(false).build();
            let _ = engine.call(engine.control().remove_image(&tag, Some(options), None));
        }
    }
}

fn not_ours() -> DockerError {
    DockerError::Engine {
        action: "load the helper image".into(),
        message: "the docker engine made another image of it".into(),
    }
}

/// The id of the image that has exactly our layer.
fn find(engine: &Engine, image: &Image) -> Result<Option<String>, DockerError> {
    for name in [&image.id, &image.tag] {
        match engine.call(engine.control().inspect_image(name)) {
            Ok(found) if is_ours(&found, image) => return Ok(found.id),
            Ok(_) => {}
            Err(error) if status(&error) == Some(404) => {}
            Err(error) => return Err(engine.error(error, "look for the helper image")),
        }
    }
    Ok(None)
}

/// The containerd store makes ids of its own, but layers keep theirs everywhere.
fn is_ours(found: &ImageInspect, image: &Image) -> bool {
    let layers = found.root_fs.as_ref().and_then(|root| root.layers.as_ref());
    found.id.is_some() && layers.is_some_and(|layers| *layers == [image.layer.clone()])
}

fn load(engine: &Engine, image: &Image) -> Result<(), DockerError> {
    let body = bollard::body_full(image.archive.clone().into());
    let answers = engine.bulk().import_image(ImportImageOptions::default(), body, None);
    bridge::drain(engine, "load the helper image", answers)
}

/// Makes the image for one architecture, named as Go names it.
fn build(arch: &str) -> Result<Image, DockerError> {
    let sane =
        !arch.is_empty() && arch.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !sane {
        return Err(DockerError::Unsupported(format!("docker engine of architecture `{arch}`")));
    }
    let config = format!(r#"{{"Cmd":["{COMMAND}"]}}"#);
    Ok(assemble(arch, &[(NOTE_PATH, TEXT_MODE, NOTE)], &config, |_| TAG.to_owned()))
}

/// Makes the image with this program.
fn build_agent(program: &Program) -> Result<Image, DockerError> {
    let files: Vec<_> = program
        .files
        .iter()
        .map(|(path, bytes)| (path.as_str(), PROGRAM_MODE, bytes.as_slice()))
        .collect();
    let config = format!(r#"{{"Labels":{{"{AGENT_LABEL}":"1"}}}}"#);
    let tag = |layer: &str| {
        let short = layer.trim_start_matches("sha256:").get(..12).unwrap_or_default();
        format!("{AGENT_NAME}:{short}")
    };
    Ok(assemble(program.arch, &files, &config, tag))
}

/// An image of one layer with these files; `tag` is made of the layer's digest.
fn assemble(
    arch: &str,
    files: &[(&str, u32, &[u8])],
    config: &str,
    tag: impl FnOnce(&str) -> String,
) -> Image {
    let layer_tar = tar_of(files);
    let layer = format!("sha256:{}", sha256_hex(&layer_tar));
    // written out, since its digest is the id: no library may order or space it anew
    let config = [
        format!(r#"{{"architecture":"{arch}","config":{config},"#),
        r#""created":"1970-01-01T00:00:00Z","history":[{"created":"1970-01-01T00:00:00Z","#.into(),
        r#""created_by":"volume-vault"}],"os":"linux","#.into(),
        format!(r#""rootfs":{{"diff_ids":["{layer}"],"type":"layers"}}}}"#),
    ]
    .concat();
    let digest = sha256_hex(config.as_bytes());
    let tag = tag(&layer);
    let manifest =
        format!(r#"[{{"Config":"{digest}.json","RepoTags":["{tag}"],"Layers":["layer.tar"]}}]"#);
    let archive = tar_of(&[
        ("layer.tar", TEXT_MODE, &layer_tar),
        (&format!("{digest}.json"), TEXT_MODE, config.as_bytes()),
        ("manifest.json", TEXT_MODE, manifest.as_bytes()),
    ]);
    Image { tag, id: format!("sha256:{digest}"), layer, archive }
}

/// A tar archive of these files with their modes, owned by root, of 1970.
fn tar_of(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (path, mode, content) in files {
        tar.extend_from_slice(&header(path, *mode, content.len() as u64));
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn header(path: &str, mode: u32, size: u64) -> Vec<u8> {
    let mut entry = EntryBuilder::new_ustar();
    let _ = entry.path(path).entry_type(EntryType::Regular);
    for set in [
        entry.mode(mode).map(drop),
        entry.uid(0).map(drop),
        entry.gid(0).map(drop),
        entry.mtime(0).map(drop),
        entry.size(size).map(drop),
    ] {
        set.expect("because these numbers fit the fields of a tar header");
    }
    entry.finish_bytes()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn image_is_the_same_bytes_each_time_and_differs_by_architecture() {
        let [first, second] = [(); 2].map(|()| build("amd64").expect("an image"));
        assert_eq!(first.archive, second.archive);
        assert_eq!(first.id, second.id);
        let other = build("arm64").expect("an image");
        assert_ne!(other.id, first.id);
        assert_eq!(other.layer, first.layer);
    }

    #[test]
    fn ids_of_the_released_image_never_change() {
        let image = build("amd64").expect("an image");
        assert_eq!(
            image.id,
            "sha256:286199b2fd0471968011d46dd098a700a6e7bf32214cd59e41c58284800ae607"
        );
        assert_eq!(
            image.layer,
            "sha256:dd21327bf30ecdd9bf1e9d388c3145ab2bc8e1e52d92ba605980659a57d843b7"
        );
    }

    #[test]
    fn archive_is_what_docker_loads() {
        let image = build("amd64").expect("an image");
        let mut archive = tar::Archive::new(&image.archive[..]);
        let mut texts = std::collections::BTreeMap::new();
        for entry in archive.entries().expect("an archive") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string();
            let mut content = Vec::new();
            let _ = entry.read_to_end(&mut content).expect("content");
            let _ = texts.insert(path, content);
        }
        let manifest: serde_json::Value =
            serde_json::from_slice(&texts["manifest.json"]).expect("a manifest");
        let config = &texts[manifest[0]["Config"].as_str().expect("a path")];
        assert_eq!(format!("sha256:{}", sha256_hex(config)), image.id);
        let config: serde_json::Value = serde_json::from_slice(config).expect("a configuration");
        let layer = &texts[manifest[0]["Layers"][0].as_str().expect("a path")];
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", sha256_hex(layer)));
    }

    #[test]
    fn architecture_cannot_break_out_of_the_configuration() {
        for arch in ["", "amd64\",\"x\":\"", "AMD64"] {
            assert!(build(arch).is_err(), "{arch}");
        }
    }
}
