//! An engine that goes away in the middle: what was under way ends with an error.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io, thread};

use volume_vault::docker::{Access, DockerError, Engine, Helper, Host};

use super::{TestVolume, ask, engine, noise, socket};

/// Stands between a client and the engine.
struct Between {
    _folder: tempfile::TempDir,
    path: PathBuf,
    /// Bytes let through in either direction of each connection made from now on.
    limit: Arc<AtomicU64>,
    cuts: Arc<AtomicU64>,
}

impl Between {
    /// Passes everything on, until a limit is set.
    fn new() -> Self {
        Self::watching(|_| {})
    }

    /// Passes everything on, but calls `watch` with each request's first line before it does.
    fn watching(watch: impl Fn(&str) + Send + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let limit = Arc::new(AtomicU64::new(u64::MAX));
        let cuts = Arc::new(AtomicU64::new(0));
        let shared = (limit.clone(), cuts.clone());
        let _ = thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.expect("a connection");
                let limit = shared.0.load(Ordering::SeqCst);
                // every request has a connection of its own
                let mut start = vec![0; 512.min(usize::try_from(limit).unwrap_or(512))];
                let len = client.read(&mut start).expect("a request");
                let line = String::from_utf8_lossy(&start[..len]);
                watch(line.lines().next().unwrap_or_default());
                let mut engine = UnixStream::connect(socket()).expect("the engine");
                engine.write_all(&start[..len]).expect("it takes the request");
                for (from, to, passed) in [(&client, &engine, len as u64), (&engine, &client, 0)] {
                    let (from, to) = (from.try_clone(), to.try_clone());
                    let (from, to) = (from.expect("a stream"), to.expect("a stream"));
                    let cuts = shared.1.clone();
                    let _ = thread::spawn(move || pass(from, to, limit - passed, &cuts));
                }
            }
        });
        Self { _folder: folder, path, limit, cuts }
    }

    fn engine(&self) -> Engine {
        Engine::connect(&Host::unix(&self.path)).expect("it answers")
    }

    fn limit(&self, bytes: u64) {
        self.limit.store(bytes, Ordering::SeqCst);
    }

    fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }
}

fn pass(from: UnixStream, mut to: UnixStream, limit: u64, cuts: &AtomicU64) {
    let passed = io::copy(&mut (&from).take(limit), &mut to).unwrap_or(0);
    if passed == limit {
        let _ = cuts.fetch_add(1, Ordering::SeqCst);
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    } else {
        let _ = to.shutdown(Shutdown::Write);
    }
}

#[test]
fn connection_cut_while_reading_is_an_error_and_never_an_end() {
    let direct = engine();
    let volume = TestVolume::new(&direct);
    let path = direct.host_path(&volume.info).expect("root on the same machine");
    fs::write(path.join("big"), noise(8_000_000)).expect("a file");
    let between = Between::new();
    let through = between.engine();
    let helper = Helper::create(&through, volume.name(), Access::Read).expect("a helper");

    between.limit(3_000_000);
    let mut reader = helper.read_archive().expect("the volume opens");
    between.limit(u64::MAX);
    let mut read = Vec::new();
    let error = reader.read_to_end(&mut read).expect_err("it was cut");
    assert_eq!((between.cuts(), error.kind()), (1, io::ErrorKind::ConnectionAborted));
    assert!(read.len() > 1_000_000 && read.len() < 3_000_000, "{}", read.len());
    let error = error.downcast::<DockerError>().expect("an error of the engine");
    assert!(matches!(error, DockerError::Interrupted { .. }), "{error:?}");
    let _ = reader.read(&mut [0; 1]).expect_err("it stays broken");
}

#[test]
fn connection_cut_while_writing_is_an_error() {
    let direct = engine();
    let volume = TestVolume::new(&direct);
    let between = Between::new();
    let through = between.engine();
    let helper = Helper::create(&through, volume.name(), Access::Write).expect("a helper");
    let content = noise(8_000_000);
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, "v/big", &content[..]).expect("an entry");

    between.limit(3_000_000);
    let mut writer = helper.archive_writer().expect("the volume opens");
    let written = writer.write_all(&tar.into_inner().expect("a tar"));
    let error = match written {
        Ok(()) => writer.finish().expect_err("it was cut"),
        Err(error) => {
            let _ = writer.write_all(b"more").expect_err("it stays broken");
            error.downcast().expect("an error of the engine")
        }
    };
    between.limit(u64::MAX);
    assert_eq!(between.cuts(), 1);
    assert!(matches!(error, DockerError::Interrupted { .. }), "{error:?}");
}

#[test]
fn engine_that_has_gone_away_is_no_engine() {
    let between = Between::new();
    let through = between.engine();
    fs::remove_file(&between.path).expect("the socket");
    let error = through.volumes().expect_err("the socket is gone");
    assert!(matches!(error, DockerError::NoEngine { .. }), "{error:?}");
}

#[test]
fn writer_that_is_dropped_leaves_no_whole_file_behind() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let path = engine.host_path(&volume.info).expect("root on the same machine");
    let helper = volume.helper(Access::Write);
    let mut header = tar::Header::new_ustar();
    header.set_size(8_000_000);
    header.set_path("v/big").expect("a path");
    header.set_cksum();
    let mut writer = helper.archive_writer().expect("the volume opens");
    writer.write_all(header.as_bytes()).expect("it is taken");
    writer.write_all(&noise(2_000_000)).expect("it is taken");
    drop(writer);
    drop(helper);
    let len = fs::metadata(path.join("big")).map_or(0, |meta| meta.len());
    assert!(len <= 2_000_000, "{len}");
}

#[test]
fn volume_removed_just_before_its_helper_is_made_is_not_found_and_not_made_anew() {
    let direct = engine();
    let volume = TestVolume::new(&direct);
    let (remover, name) = (direct.clone(), volume.name().to_owned());
    let between = Between::watching(move |request| {
        if request.contains("/containers/create") {
            remover.remove_volume(&name).expect("nobody uses it yet");
        }
    });
    let error = Helper::create(&between.engine(), volume.name(), Access::Read);
    let error = error.expect_err("the volume is gone");
    assert!(matches!(error, DockerError::NotFound { kind: "volume", .. }), "{error:?}");
    assert_eq!(ask(&direct, "GET", &format!("/volumes/{}", volume.name()), "").status, 404);
}
