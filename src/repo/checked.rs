//! Which packs this host has read whole in the present round, so that checks that read a share each
//! come around to all of them.
//!
//! A round begins with a first share and ends when no pack is left. Losing this file only means
//! that a round begins again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;

use minicbor::{Decode, Encode};

use super::error::RepoError;
use super::repository::Repository;
use super::state::LockedState;
use crate::clock::Time;
use crate::format::ObjectKind;
use crate::id::PackId;
use crate::store::ObjectName;

const FILE: &str = "checked";

/// The packs that were read since a round began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadRound {
    /// When the round began.
    pub since: Time,
    /// The first eight bytes of the id of each pack: hashes of stored bytes, so that is enough.
    read: BTreeSet<[u8; 8]>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Document {
    #[n(0)]
    seconds: i64,
    #[n(1)]
    nanos: u32,
    #[cbor(n(2), with = "minicbor::bytes")]
    read: Vec<u8>,
}

impl ReadRound {
    /// A round that begins now.
    #[must_use]
    pub fn begin(now: Time) -> Self {
        Self { since: now, read: BTreeSet::new() }
    }

    /// Whether a pack was read in this round.
    #[must_use]
    pub fn has(&self, pack: &PackId) -> bool {
        self.read.contains(&short(pack))
    }

    fn encode(&self) -> Vec<u8> {
        let read = self.read.iter().flatten().copied().collect();
        let document = Document { seconds: self.since.seconds, nanos: self.since.nanos, read };
        minicbor::to_vec(document).expect("because writing to memory cannot fail")
    }

    fn decode(message: &[u8]) -> Option<Self> {
        let Document { seconds, nanos, read } = minicbor::decode(message).ok()?;
        let (ids, rest) = read.as_chunks();
        let read = ids.iter().copied().collect();
        rest.is_empty().then_some(Self { since: Time::new(seconds, nanos), read })
    }
}

fn short(pack: &PackId) -> [u8; 8] {
    let mut short = [0; 8];
    short.copy_from_slice(&pack.as_bytes()[..8]);
    short
}

/// What this host remembers; none if that is nothing, or cannot be read.
#[must_use]
pub fn read_round(repo: &Repository) -> Option<ReadRound> {
    let bytes = std::fs::read(repo.dirs().state.join(FILE)).ok()?;
    let name = ObjectName::parse(FILE)?;
    let message = repo.open_signed(ObjectKind::State, &name, &bytes).ok()?;
    ReadRound::decode(&message)
}

/// Remembers that these packs were read in the round that began at `since`; gives all of it. What
/// was read before in the same round counts, too; any other round is forgotten.
///
/// Errors: [`RepoError::Local`].
pub fn note_read(repo: &Repository, since: Time, packs: &[PackId]) -> Result<ReadRound, RepoError> {
    // Held while the file is read and written.
    let _locked = LockedState::open(repo)?;
    let mut round = ReadRound::begin(since);
    round.read.extend(packs.iter().map(short));
    if let Some(known) = read_round(repo).filter(|known| known.since == since) {
        round.read.extend(known.read);
    }
    let sealed = repo.seal_signed(ObjectKind::State, &round.encode())?.to_vec();
    let path = repo.dirs().state.join(FILE);
    let temporary = path.with_extension("new");
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(&sealed)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)
    })();
    written.map_err(RepoError::local("write", &path))?;
    Ok(round)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_reads_back_and_what_is_none_does_not() {
        let mut round = ReadRound::begin(Time::new(-3, 4));
        round.read.extend([short(&PackId::new([1; 32])), short(&PackId::new([2; 32]))]);
        assert_eq!(ReadRound::decode(&round.encode()), Some(round.clone()));
        assert!(round.has(&PackId::new([2; 32])) && !round.has(&PackId::new([3; 32])));
        let document = Document { seconds: 0, nanos: 0, read: vec![0; 9] };
        let bytes = minicbor::to_vec(document).expect("memory");
        assert_eq!(ReadRound::decode(&bytes), None);
        assert_eq!(ReadRound::decode(b"no document"), None);
    }
}
