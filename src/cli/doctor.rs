//! `vault doctor`

mod host;

use std::path::Path;

use serde_json::json;
use volume_vault::docker::{Engine, EngineInfo};
use volume_vault::format::StoreFacts;
use volume_vault::repo::{
    RepoError, Repository, Secret, SnapshotList, keep_facts, list_slots, to_facts,
};
use volume_vault::store::{Location, probe, probe_many};

use super::context::Context;
use super::disk::Disk;
use super::error::{CliError, ExitCode, Kind};
use super::open::{Opened, open_store, open_with, to_secret};
use super::output::{Align, Table, document, size};
use super::repository::Choice;

const EXAMPLES: &str = "\
Examples:
  vault doctor               engine, repository, key, places and limits
  vault doctor -H ssh://h2   the same with another Docker host: what works there
  vault doctor --json        the same for a bug report; it holds no secret";

/// Clocks that differ by more seconds than this are a warning; stores refuse at 900.
const CLOCKS_APART_MAX: u64 = 120;

/// Less free space than this is a warning, in bytes.
const FREE_MIN: u64 = 1 << 30;

/// Look for what would make a backup or restore fail
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Warn,
    Fail,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line of the report.
struct Finding {
    what: &'static str,
    state: State,
    text: String,
    advice: Option<String>,
}

pub(crate) fn run(_args: DoctorArgs, context: &Context) -> Result<ExitCode, CliError> {
    let mut report = Report::default();
    report.program(context);
    let engine = report.engine(context);
    report.repository(context, engine.as_ref().map(Engine::info));
    report.places(context);
    let failed = report.findings.iter().any(|finding| finding.state == State::Fail);
    report.print(context)?;
    Ok(if failed { ExitCode::Failed } else { ExitCode::Done })
}

#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, what: &'static str, state: State, text: impl Into<String>) {
        self.findings.push(Finding { what, state, text: text.into(), advice: None });
    }

    /// Adds what to do to the finding added last.
    fn advise(&mut self, advice: impl Into<String>) {
        if let Some(finding) = self.findings.last_mut() {
            finding.advice = Some(advice.into());
        }
    }

    fn error(&mut self, what: &'static str, state: State, error: &CliError) {
        self.add(what, state, error.one_line());
        if let Some(advice) = error.advice() {
            self.advise(advice);
        }
    }

    fn program(&mut self, context: &Context) {
        self.add("version", State::Ok, format!("vault {}", env!("CARGO_PKG_VERSION")));
        match rustix::process::geteuid().is_root() {
            true => self.add("user", State::Ok, "runs as root"),
            false => {
                self.add("user", State::Warn, "does not run as root");
                self.advise(
                    "volumes are read through the engine, and owners of restored files are not \
                     set; run it with sudo to read and write them in place",
                );
            }
        }
        let text = match &context.configuration.path {
            Some(path) => path.display().to_string(),
            None => "none".to_owned(),
        };
        self.add("configuration", State::Ok, text);
    }

    fn repository(&mut self, context: &Context, engine: Option<&EngineInfo>) {
        let choice = match context.repository() {
            Ok(choice) => choice,
            Err(error) => return self.error("repository", State::Fail, &error),
        };
        let named = format!("{} ({})", choice.url, choice.origin);
        let location = match choice.location() {
            Ok(location) => location,
            Err(error) => return self.error("repository", State::Fail, &error),
        };
        if let Location::Local(path) = &location
            && choice.may_create
            && !path.join("vault.json").exists()
        {
            self.add("repository", State::Ok, format!("{named}: made by the first backup"));
            return self.location(path, engine);
        }
        self.add("repository", State::Ok, named);
        let mut opened = None;
        match look(context, &choice) {
            Ok((repo, looked)) => {
                self.looked(looked);
                opened = Some(repo);
            }
            Err(error) => self.error("repository", State::Fail, &error),
        }
        match location {
            Location::Local(path) => self.location(&path, engine),
            Location::Remote(_) | Location::Sftp(_) => {
                self.elsewhere(context, &choice, opened.as_ref());
            }
        }
    }

    /// What a store elsewhere does with an object that is put there and removed again.
    fn elsewhere(&mut self, context: &Context, choice: &Choice, repo: Option<&Opened>) {
        if context.dry_run {
            return self.add("location", State::Ok, "not tried out: dry run");
        }
        let known = repo.and_then(|repo| repo.config().store).and_then(|store| store.lists_many);
        let tried = open_store(context, choice).and_then(|store| {
            let found = probe(&*store, context.clock)?;
            // A thousand objects are put for this, so it is asked of a store only once.
            let many = match known {
                None if repo.is_some() => probe_many(&*store)?,
                known => known,
            };
            Ok((found, many))
        });
        let (found, many) = match tried {
            Ok(tried) => tried,
            Err(error) => return self.error("location", State::Fail, &error),
        };
        let mut look = |good: bool, yes: &str, no: &str| {
            let (state, text) = if good { (State::Ok, yes) } else { (State::Fail, no) };
            self.add("location", state, text);
        };
        look(found.reads_back, "what was just written can be read", "it loses what is written");
        look(found.lists_written, "and is listed", "it does not list what was just written");
        if let Some(complete) = many {
            look(complete, "long lists are complete", "long lists leave out objects");
        }
        match found.forgets_deleted {
            Some(gone) => look(gone, "what is deleted is gone", "it shows what was deleted"),
            None => look(true, "these credentials may not delete: prune with others", ""),
        }
        if found.creates_once == Some(false) {
            let text = "several can create one object at once; nothing here rests on that";
            self.add("location", State::Ok, text);
        }
        if let Some(repo) = repo {
            self.kept(keep_facts(repo, to_facts(&found, many, context.now())));
        }
        if found.clock_ahead.unsigned_abs() > CLOCKS_APART_MAX {
            let text = format!("its clock and ours are {} s apart", found.clock_ahead.abs());
            self.add("location", State::Warn, text);
            self.advise("set the clock of this machine (`timedatectl`); stores refuse wrong ones");
        }
    }

    /// What is known of the store by now, which all hosts see.
    fn kept(&mut self, kept: Result<StoreFacts, RepoError>) {
        match kept {
            Ok(store) if store.lists_written => {}
            Ok(_) => {
                self.add("location", State::Warn, "its lists were seen to lag");
                self.advise("`vault prune --grace 7d` or more waits long enough");
            }
            Err(error) => {
                let error = CliError::from(error).one_line();
                let text = format!("what was seen of it could not be kept: {error}");
                self.add("location", State::Warn, text);
            }
        }
    }

    fn looked(&mut self, looked: Looked) {
        self.add("key", State::Ok, format!("the {} opens it", looked.secret));
        match looked.damaged_slots {
            0 => {}
            more => {
                self.add("key", State::Fail, format!("{more} key slots are damaged"));
                self.advise("`vault key list` names them; remove them, and add others");
            }
        }
        match looked.recovery_codes {
            0 => {
                self.add("recovery", State::Warn, "there is no recovery code");
                self.advise("`vault key recovery` makes one; lock it away");
            }
            many => self.add("recovery", State::Ok, format!("{many} recovery codes open it")),
        }
        match looked.snapshots {
            Ok((snapshots, 0)) => {
                self.add("snapshots", State::Ok, format!("{snapshots} can be read"));
            }
            Ok((snapshots, damaged)) => {
                let text = format!("{snapshots} can be read, {damaged} records are damaged");
                self.add("snapshots", State::Fail, text);
                self.advise("`vault check --read-data` names all damage");
            }
            Err(error) => self.error("snapshots", State::Fail, &error),
        }
    }

    /// The disk a local repository lies on.
    fn location(&mut self, path: &Path, engine: Option<&EngineInfo>) {
        let disk = match Disk::of(path) {
            Ok(disk) => disk,
            Err(error) => {
                let message = format!("look at `{}`", path.display());
                let error = CliError::new(Kind::Failed, message).because(error);
                return self.error("location", State::Fail, &error);
            }
        };
        self.add("location", State::Ok, format!("a directory on {}", disk.file_system));
        if let Some(problem) = disk.problem() {
            self.add("location", State::Warn, problem);
        }
        if !disk.writable {
            self.add("location", State::Fail, format!("{} cannot be written", path.display()));
            self.advise("backups fail; restores work");
        }
        self.free("location", &disk);
        let engine = engine.filter(|engine| engine.local && !engine.root_dir.is_empty());
        let root = engine.and_then(|engine| Disk::of(Path::new(&engine.root_dir)).ok());
        if root.is_some_and(|root| root.device == disk.device) {
            self.add("location", State::Warn, "the repository is on the same disk as the volumes");
            self.advise(
                "that is no disaster recovery: keep one on another machine or disk \
                 (`vault init URL --default`)",
            );
        }
    }

    fn free(&mut self, what: &'static str, disk: &Disk) {
        let text = format!("{} of {} are free", size(disk.free), size(disk.total));
        let state = if disk.free < FREE_MIN { State::Warn } else { State::Ok };
        self.add(what, state, text);
    }

    fn places(&mut self, context: &Context) {
        let state = Some(context.places.state.clone());
        for (what, place) in [("cache", context.cache_dir.clone()), ("state", state)] {
            let Some(place) = place else {
                self.add(what, State::Ok, "not used: --no-cache");
                continue;
            };
            self.place(what, &place);
        }
    }

    fn place(&mut self, what: &'static str, place: &Path) {
        match Disk::of(place) {
            Ok(disk) if disk.writable => {
                let text = format!("{}, {} free", place.display(), size(disk.free));
                self.add(what, State::Ok, text);
            }
            Ok(_) => {
                self.add(what, State::Fail, format!("{} cannot be written", place.display()));
                self.advise("nothing works without it; `--cache-dir` and XDG_STATE_HOME move it");
            }
            Err(error) => {
                let message = format!("look at `{}`", place.display());
                let error = CliError::new(Kind::Failed, message).because(error);
                self.error(what, State::Fail, &error);
            }
        }
    }

    fn print(&self, context: &Context) -> Result<(), CliError> {
        if context.output.format.is_json() {
            let findings: Vec<_> = self
                .findings
                .iter()
                .map(|finding| {
                    json!({ "what": finding.what, "state": finding.state.name(),
                        "text": finding.text, "advice": finding.advice })
                })
                .collect();
            return context.output.document(&document(json!({ "findings": findings })));
        }
        let mut table = Table::new(&[("", Align::Left), ("", Align::Left), ("", Align::Left)]);
        for finding in &self.findings {
            if context.output.quiet && finding.state == State::Ok {
                continue;
            }
            let escaped = |text: &str| volume_vault::entry::escape(text.as_bytes());
            let (state, what) = (finding.state.name().to_owned(), finding.what.to_owned());
            table.row([state, what, escaped(&finding.text)]);
            if let Some(advice) = finding.advice.as_ref().filter(|_| finding.state != State::Ok) {
                table.row([String::new(), String::new(), format!("-> {}", escaped(advice))]);
            }
        }
        // There are no headings.
        table.lines().iter().skip(1).try_for_each(|line| context.output.line(line))
    }
}

/// What there is to know of a repository that can be opened.
struct Looked {
    secret: &'static str,
    damaged_slots: usize,
    recovery_codes: usize,
    /// Sound and damaged ones.
    snapshots: Result<(usize, usize), CliError>,
}

fn look(context: &Context, choice: &Choice) -> Result<(Opened, Looked), CliError> {
    let store = open_store(context, choice)?;
    let id = Repository::probe(&*store)?.repository;
    let slots = list_slots(&*store)?;
    let secret = to_secret(context.credentials(choice).existing(&id)?)?;
    let repo = open_with(context, &secret)?;
    let snapshots = SnapshotList::load(&repo);
    let looked = Looked {
        secret: secret.name(),
        damaged_slots: slots.iter().filter(|slot| !slot.sound).count(),
        recovery_codes: slots.iter().filter(|slot| slot.kind == Secret::RECOVERY_CODE).count(),
        snapshots: snapshots
            .map(|list| (list.snapshots.len(), list.damaged.len()))
            .map_err(CliError::from),
    };
    Ok((repo, looked))
}
