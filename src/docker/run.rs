//! Which run of the program made a helper, and whether that run still lives.
//!
//! An id names machine, boot, pid namespace, pid and start time. Only a run of this very boot and
//! namespace can be looked for; one of an earlier boot of this machine is gone; of all others
//! nothing is known.

use std::fs;
use std::io;

use super::digest::sha256_hex;

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It still runs.
    Alive,
    /// It has ended.
    Gone,
    /// It ran where this run cannot look.
    Unknown,
}

/// One run of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunId {
    /// Digest of the machine's id; empty if it has none.
    machine: String,
    boot: String,
    namespace: String,
    pid: u32,
    /// In ticks since boot.
    started: u64,
}

impl RunId {
    /// This run.
    pub(super) fn current() -> io::Result<Self> {
        let pid = std::process::id();
        let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
        let machine = match machine.trim() {
            "" => String::new(),
            id => sha256_hex(format!("volume-vault {id}").as_bytes())[..16].to_owned(),
        };
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let namespace = fs::read_link("/proc/self/ns/pid")?;
        let namespace = namespace.to_string_lossy();
        Ok(Self {
            machine,
            boot: boot.trim().replace('-', ""),
            namespace: namespace.chars().filter(char::is_ascii_digit).collect(),
            pid,
            started: start_time(pid)?.ok_or(io::ErrorKind::NotFound)?,
        })
    }

    /// The text that goes into a label.
    pub(super) fn to_label(&self) -> String {
        let Self { machine, boot, namespace, pid, started } = self;
        format!("1.{machine}.{boot}.{namespace}.{pid}.{started}")
    }

    /// What became of the run that wrote `label`.
    pub(super) fn fate_of(&self, label: &str) -> Fate {
        let Some(other) = Self::from_label(label) else { return Fate::Unknown };
        if self.boot != other.boot {
            let same_machine = !self.machine.is_empty() && self.machine == other.machine;
            return if same_machine { Fate::Gone } else { Fate::Unknown };
        }
        if self.namespace != other.namespace {
            return Fate::Unknown;
        }
        match start_time(other.pid) {
            Ok(Some(started)) if started == other.started => Fate::Alive,
            Ok(_) => Fate::Gone,
            Err(_) => Fate::Unknown,
        }
    }

    fn from_label(label: &str) -> Option<Self> {
        let mut parts = label.split('.');
        let mut next = || parts.next();
        let version = next()?;
        let run = Self {
            machine: next()?.to_owned(),
            boot: next()?.to_owned(),
            namespace: next()?.to_owned(),
            pid: next()?.parse().ok()?,
            started: next()?.parse().ok()?,
        };
        (version == "1" && next().is_none()).then_some(run)
    }
}

/// When the process `pid` began, in ticks since boot; none if there is no such process.
fn start_time(pid: u32) -> io::Result<Option<u64>> {
    let line = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(line) => line,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // ESRCH: it ended between being opened and being read
        Err(error) if error.raw_os_error() == Some(3) => return Ok(None),
        Err(error) => return Err(error),
    };
    // the name in parentheses may hold anything, so the fields are counted from its end
    let fields = line.rsplit_once(')').map_or("", |(_, fields)| fields);
    let started = fields.split_ascii_whitespace().nth(19).and_then(|field| field.parse().ok());
    started.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_gives_back_the_run() {
        let run = RunId::current().expect("a run");
        assert_eq!(RunId::from_label(&run.to_label()), Some(run));
    }

    #[test]
    fn this_run_is_alive_and_one_with_its_pid_but_another_start_is_gone() {
        let run = RunId::current().expect("a run");
        assert_eq!(run.fate_of(&run.to_label()), Fate::Alive);
        let earlier = RunId { started: run.started - 1, ..run.clone() };
        assert_eq!(run.fate_of(&earlier.to_label()), Fate::Gone);
    }

    #[test]
    fn run_of_another_boot_is_gone_only_on_the_same_machine() {
        let run = RunId { machine: "m".into(), ..RunId::current().expect("a run") };
        let reboot = RunId { boot: "b".into(), ..run.clone() };
        assert_eq!(run.fate_of(&reboot.to_label()), Fate::Gone);
        let elsewhere = RunId { machine: "n".into(), ..reboot.clone() };
        assert_eq!(run.fate_of(&elsewhere.to_label()), Fate::Unknown);
        let nameless = RunId { machine: String::new(), ..reboot };
        assert_eq!(nameless.fate_of(&run.to_label()), Fate::Unknown);
        let walled_off = RunId { namespace: "1".into(), ..run.clone() };
        assert_eq!(run.fate_of(&walled_off.to_label()), Fate::Unknown);
    }

    #[test]
    fn label_of_somebody_else_tells_nothing() {
        let run = RunId::current().expect("a run");
        for label in ["", "1", "2.m.b.1.1.1", "1.m.b.1.x.1", "1.m.b.1.1.1.1"] {
            assert_eq!(run.fate_of(label), Fate::Unknown, "{label}");
        }
    }
}
