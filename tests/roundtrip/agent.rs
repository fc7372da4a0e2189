//! What an agent saves is what is saved without one, and only what is new goes over the wire.
//!
//! The agent is a thread behind two pipes, with all that it says and hears counted, cut off or
//! damaged on its way.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use proptest::collection::vec;
use rustix::fs::{AtFlags, Mode, OFlags, linkat, mkdirat, open, openat};
use volume_vault::clock::Clock;
use volume_vault::event::{Observer, Recorder};
use volume_vault::ops::agent::{AgentStreams, LinkError, RemoteSink, RemoteSource, serve};
use volume_vault::ops::restore::{Extra, RestoreRun, restore_over, restore_to};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::ChunkReader;
use volume_vault::sink::{MARKER_NAME, SinkError};
use volume_vault::source::Selection;

use super::mutation::mutations;
use super::{Bench, CACHE, Saved, assert_same, check, noise, shown, write};
use crate::support::tree::plan::plans;
use crate::support::tree::{Aspect, describe, diff_except};

/// Content that no other number has.
fn unique(n: u32, len: usize) -> Vec<u8> {
    let mut content = vec![0; len];
    blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut content);
    content
}

/// What becomes of what the agent says.
#[derive(Clone, Copy)]
enum Fault {
    None,
    /// It ends after so many bytes.
    CutOff(u64),
    /// The byte at this place differs.
    Damage(u64),
}

/// What the agent says, on its way.
struct Wire {
    pipe: PipeReader,
    passed: Arc<AtomicU64>,
    fault: Fault,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let passed = self.passed.load(Ordering::Relaxed);
        let room = match self.fault {
            Fault::CutOff(end) => usize::try_from(end.saturating_sub(passed)).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let room = room.min(buffer.len());
        let len = self.pipe.read(&mut buffer[..room])?;
        if let Fault::Damage(at) = self.fault
            && let Some(byte) = at.checked_sub(passed).and_then(|at| usize::try_from(at).ok())
            && byte < len
        {
            buffer[byte] ^= 1;
        }
        let _ = self.passed.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}

/// What the agent is told, on its way.
struct Told {
    pipe: PipeWriter,
    passed: Arc<AtomicU64>,
    /// Beyond so many bytes it is broken.
    max: u64,
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.passed.load(Ordering::Relaxed) >= self.max {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let len = self.pipe.write(bytes)?;
        let _ = self.passed.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }
}

/// An agent for `place`, and how many bytes it says and hears.
fn agent(place: &Path, clock: Clock, fault: Fault) -> (AgentStreams, [Arc<AtomicU64>; 2]) {
    let (streams, passed, _) = agent_that_hears(place, clock, fault, u64::MAX);
    (streams, passed)
}

/// As [`agent`], which hears so many bytes and no more; with the thread that it is.
fn agent_that_hears(
    place: &Path,
    clock: Clock,
    fault: Fault,
    max: u64,
) -> (AgentStreams, [Arc<AtomicU64>; 2], JoinHandle<Result<(), LinkError>>) {
    let (hears, input) = io::pipe().expect("a pipe");
    let (pipe, says) = io::pipe().expect("a pipe");
    let place = place.to_owned();
    let agent = std::thread::spawn(move || serve(Box::new(hears), Box::new(says), &place, clock));
    let passed: [Arc<AtomicU64>; 2] = Default::default();
    let streams = AgentStreams {
        output: Box::new(Wire { pipe, passed: passed[0].clone(), fault }),
        input: Box::new(Told { pipe: input, passed: passed[1].clone(), max }),
        hang_up: Box::new(|| {}),
        is_far: true,
        name: "agent of a thread".to_owned(),
    };
    (streams, passed, agent)
}

impl Bench {
    fn try_by_agent(&self, series: &str, fault: Fault) -> (Result<Saved, OpsError>, [u64; 2]) {
        let (streams, passed) = agent(&self.tree(), self.clock(), fault);
        let saved =
            RemoteSource::greet(streams).and_then(|agent| self.try_to_save(series, |_| Ok(agent)));
        (saved, passed.map(|passed| passed.load(Ordering::Relaxed)))
    }

    /// Also returns how many bytes went over the wire, to and fro.
    fn save_by_agent(&self, series: &str) -> (Saved, u64) {
        let (saved, [said, heard]) = self.try_by_agent(series, Fault::None);
        (saved.expect("it is saved"), said + heard)
    }
}

#[test]
fn any_tree_is_saved_as_without_an_agent_and_after_any_change() {
    let cases = (plans(30), vec(mutations(), 1..8));
    check(16, &cases, |(plan, changes)| {
        let bench = Bench::on_tmpfs();
        plan.make(&bench.tree());
        let (first, _) = bench.save_by_agent("agent");
        assert_eq!(first.report.item.root, bench.save_as("here").report.item.root);
        bench.assert_comes_back(&first, &describe(&bench.tree()));
        changes.iter().for_each(|change| change.apply(&bench.tree()));
        let (second, _) = bench.save_by_agent("agent");
        let here = bench.save_as("here again");
        assert_eq!(second.report.item.root, here.report.item.root);
        assert_eq!(shown(&second.warnings), shown(&here.warnings));
    });
}

#[test]
fn what_did_not_change_is_not_read_and_costs_little_on_the_wire() {
    let bench = Bench::new();
    for n in 0..3000 {
        fs::create_dir_all(bench.at(&format!("d{}", n % 20))).expect("made");
        write(&bench.at(&format!("d{}/file-{n}", n % 20)), unique(n, 3000));
    }
    let (first, wire) = bench.save_by_agent("agent");
    assert!(wire > 9_000_000, "{wire}");
    assert_eq!(first.report.item.facts.bytes_read, 9_000_000);
    let (second, wire) = bench.save_by_agent("agent");
    let facts = second.report.item.facts;
    assert_eq!((facts.bytes_read, facts.entries_unchanged), (0, facts.entries));
    assert_eq!(second.report.item.root, first.report.item.root);
    assert!(wire < 3000 * 100, "{wire}");
}

#[test]
fn of_a_changed_file_only_what_is_new_goes_over_the_wire() {
    let bench = Bench::new();
    let mut content = noise(1, 20 << 20);
    write(&bench.at("database"), &content);
    let _ = bench.save_by_agent("agent");
    content[10 << 20] ^= 1;
    write(&bench.at("database"), &content);
    let (second, wire) = bench.save_by_agent("agent");
    assert_eq!(second.report.item.facts.bytes_read, 20 << 20);
    assert_eq!(second.report.item.root, bench.save_as("here").report.item.root);
    assert!(wire < 300_000, "{wire}");
}

#[test]
fn what_is_left_out_is_left_out_by_the_agent() {
    let bench = Bench::new();
    for folder in ["kept", "cache"] {
        fs::create_dir(bench.at(folder)).expect("made");
    }
    write(&bench.at("kept/file"), b"kept");
    write(&bench.at("cache/file"), noise(1, 1 << 20));
    let (streams, passed) = agent(&bench.tree(), bench.clock(), Fault::None);
    let selection = Selection::new(&[], &["/cache/".to_owned()]).expect("a pattern");
    let source = RemoteSource::greet(streams).expect("it answers").select(selection);
    let saved = bench.try_to_save("agent", |_| Ok(source)).expect("it is saved");
    assert_eq!(saved.report.item.facts.entries, 3);
    assert!(passed[0].load(Ordering::Relaxed) < 10_000);
}

#[test]
fn a_wire_that_breaks_or_lies_anywhere_makes_no_snapshot() {
    let bench = Bench::new();
    // Content that is new each time, so that it goes over the wire.
    let renew = |time: u32| {
        for n in 0..40 {
            write(&bench.at(&format!("file-{n}")), unique(1000 * time + n, 50_000));
        }
    };
    renew(0);
    let (whole, [said, _]) = bench.try_by_agent("whole", Fault::None);
    let _ = whole.expect("it is saved");
    let before = bench.repo.store().list("snapshots").expect("lists").len();
    // Other content is cut into some chunks more or less, each of which has its name said.
    for (time, at) in (1..).zip((0..30).map(|n| n * (said - 4000) / 29)) {
        for (fault, time) in [(Fault::CutOff(at), time), (Fault::Damage(at), 100 + time)] {
            renew(time);
            let (broken, _) = bench.try_by_agent("broken", fault);
            let error = broken.err().expect("it fails");
            assert!(matches!(error, OpsError::Agent { .. }), "{at}: {error}");
            let io = matches!(error, OpsError::Agent { source: LinkError::Io(_), .. });
            assert!(io || matches!(fault, Fault::Damage(_)), "{at}: {error:?}");
        }
    }
    assert_eq!(bench.repo.store().list("snapshots").expect("lists").len(), before);
    // What broken runs left behind is in nobody's way.
    let (again, _) = bench.save_by_agent("broken");
    assert_eq!(again.report.item.root, bench.save_as("here").report.item.root);
}

#[test]
fn any_tree_comes_back_by_an_agent() {
    check(16, &plans(30), |plan| {
        let bench = Bench::on_tmpfs();
        plan.make(&bench.tree());
        let saved = bench.save();
        let target = bench.beside();
        fs::create_dir(&target).expect("made");
        let restored = bench.run(Selection::all(), |run| {
            let (streams, _) = agent(&target, bench.clock(), Fault::None);
            let sink = RemoteSink::begin(
                streams,
                false,
                "a restore",
                run.observer.clone(),
                run.interrupt,
            )?;
            restore_to(run, &saved.report.item, Box::new(sink))
        });
        assert_eq!(shown(&restored.warnings), [""; 0]);
        assert_same(&describe(&bench.tree()), &target);
    });
}

#[test]
fn any_change_is_undone_by_an_agent() {
    check(16, &(plans(30), vec(mutations(), 1..14)), |(plan, changes)| {
        let bench = Bench::on_tmpfs();
        plan.make(&bench.tree());
        let wanted = describe(&bench.tree());
        let saved = bench.save();
        changes.iter().for_each(|change| change.apply(&bench.tree()));
        let present = bench.scan();
        let restored = bench.run(Selection::all(), |run| {
            let (streams, _) = agent(&bench.tree(), bench.clock(), Fault::None);
            let sink =
                RemoteSink::begin(streams, true, "a restore", run.observer.clone(), run.interrupt)?;
            restore_over(run, &present, &saved.report.item, Extra::Remove, Box::new(sink))
        });
        assert_eq!(shown(&restored.warnings), [""; 0]);
        assert_eq!(diff_except(&wanted, &describe(&bench.tree()), &[Aspect::Holes]), [""; 0]);
    });
}

#[test]
fn to_undo_a_small_change_little_goes_over_the_wire() {
    let bench = Bench::new();
    let content = noise(1, 20 << 20);
    write(&bench.at("database"), &content);
    for n in 0..1000 {
        write(&bench.at(&format!("file-{n}")), unique(n, 3000));
    }
    let saved = bench.save();
    let mut changed = content.clone();
    changed[10 << 20] ^= 1;
    write(&bench.at("database"), &changed);
    write(&bench.at("file-7"), b"other");
    let present = bench.scan();
    let (streams, passed) = agent(&bench.tree(), bench.clock(), Fault::None);
    let restored = bench.run(Selection::all(), |run| {
        let sink =
            RemoteSink::begin(streams, true, "a restore", run.observer.clone(), run.interrupt)?;
        restore_over(run, &present, &saved.report.item, Extra::Remove, Box::new(sink))
    });
    assert_eq!(shown(&restored.warnings), [""; 0]);
    assert_eq!(fs::read(bench.at("database")).expect("read"), content);
    assert_eq!(fs::read(bench.at("file-7")).expect("read"), unique(7, 3000));
    let wire: u64 = passed.iter().map(|passed| passed.load(Ordering::Relaxed)).sum();
    assert!(wire < 300_000, "{wire}");
}

#[test]
fn a_wire_that_breaks_while_writing_leaves_the_marker() {
    let bench = Bench::new();
    write(&bench.at("file"), noise(1, 5 << 20));
    let saved = bench.save();
    let target = bench.beside();
    fs::create_dir(&target).expect("made");
    let index = Arc::new(bench.repo.load_index().expect("loads"));
    let reader = Arc::new(ChunkReader::new(&bench.repo, &index, CACHE));
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let interrupt = Interrupt::default();
    let run = RestoreRun {
        reader: &reader,
        selection: Selection::all(),
        observer: &observer,
        interrupt: &interrupt,
    };
    let restore = |max| {
        let none = Fault::None;
        let (streams, _, agent) = agent_that_hears(&target, bench.clock(), none, max);
        let sink = RemoteSink::begin(streams, false, "a restore", observer.clone(), &interrupt)?;
        let restored = restore_to(&run, &saved.report.item, Box::new(sink));
        Ok((restored, agent.join().expect("no agent panics")))
    };
    let (broken, agent) = restore(2 << 20).expect("it begins");
    let error = broken.expect_err("what is to be said cannot be");
    assert!(matches!(error, OpsError::Sink(SinkError::Target { .. })), "{error}");
    assert!(matches!(agent, Err(LinkError::Io(_))), "{agent:?}");
    assert!(target.join(MARKER_NAME).exists());
    // The same may begin again, and has to begin anew.
    write(&target.join("half"), "a file");
    let (restored, agent) = restore(u64::MAX).expect("it begins");
    let _ = restored.expect("it comes back");
    agent.expect("it ends well");
    assert_same(&describe(&bench.tree()), &target);
    let error = restore(u64::MAX).expect_err("it is not empty");
    assert!(matches!(&error, OpsError::Refused(why) if why.contains("not empty")), "{error}");
}

#[test]
fn an_agent_that_finds_no_directory_says_so() {
    let bench = Bench::new();
    fs::remove_dir(bench.tree()).expect("removed");
    let (failed, _) = bench.try_by_agent("agent", Fault::None);
    let error = failed.err().expect("it fails");
    let OpsError::Agent { source: LinkError::Failed(message), .. } = &error else {
        panic!("{error:?}")
    };
    assert!(message.contains("tree") && message.contains("No such file"), "{message}");
}

/// Folders within folders; gives the innermost, whose path no system call would take.
fn deep(dir: &Path, levels: usize) -> OwnedFd {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = open(dir, flags, Mode::empty()).expect("opened");
    let name = "n".repeat(250);
    for _ in 0..levels {
        mkdirat(&at, name.as_str(), Mode::RWXU).expect("made");
        at = openat(&at, name.as_str(), flags, Mode::empty()).expect("opened");
    }
    at
}

#[test]
fn paths_that_together_are_longer_than_any_message_come_over_and_back() {
    let bench = Bench::new();
    let innermost = deep(&bench.tree(), 80);
    for n in 0..900_u32 {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&innermost, format!("{n}"), flags, Mode::RWXU).expect("made");
        fs::File::from(file).write_all(&n.to_le_bytes()).expect("written");
        linkat(&innermost, format!("{n}"), &innermost, format!("{n}-too"), AtFlags::empty())
            .expect("linked");
    }
    let (first, _) = bench.save_by_agent("agent");
    let (second, _) = bench.save_by_agent("agent");
    let facts = second.report.item.facts;
    assert_eq!((facts.bytes_read, facts.entries_unchanged), (0, facts.entries));
    assert_eq!(first.report.item.root, bench.save_as("here").report.item.root);
    let target = bench.beside();
    fs::create_dir(&target).expect("made");
    let restored = bench.run(Selection::all(), |run| {
        let (streams, _) = agent(&target, bench.clock(), Fault::None);
        let (observer, interrupt) = (run.observer.clone(), run.interrupt);
        let sink = RemoteSink::begin(streams, false, "a restore", observer, interrupt)?;
        restore_to(run, &first.report.item, Box::new(sink))
    });
    assert_eq!(shown(&restored.warnings), [""; 0]);
    assert_eq!(bench.save_dir("back", &target).report.item.root, first.report.item.root);
}
