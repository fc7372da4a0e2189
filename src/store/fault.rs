//! Disturbs calls to a store by plan or by seed, and proves which faults were hit.
//!
//! A test first runs undisturbed and reads [`FaultStore::calls`], then runs again with a fault at
//! call 1, 2, … up to that number. A run whose [`FaultStore::hits`] are empty has proven nothing.
//! Where several use one store, a [`Director`] holds each call until it may go on.

mod late;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::late::Letter;
use crate::crypto::Payload;
use crate::store::{Call, CallKind, Listed, ObjectName, Store, StoreError};

/// Is run at a call. It may use the wrapped store; through the wrapper it would call itself.
pub type Hook = Arc<dyn Fn(&Call) + Send + Sync>;

/// Makes of a listing what is shown instead.
pub type Lens = Arc<dyn Fn(Vec<Listed>) -> Vec<Listed> + Send + Sync>;

/// Decides at each call what happens to it.
pub trait Director: Send + Sync + fmt::Debug {
    /// Is asked before a call and may hold it; gives its fault. Calls after a stop are refused
    /// without being asked for.
    fn before(&self, call: &Call) -> Option<Fault>;

    /// Is told when a call that it was asked for has ended.
    fn after(&self, call: &Call);
}

/// What happens at a call.
#[derive(Clone)]
pub enum Fault {
    /// The call fails and nothing is done.
    FailBefore,
    /// The call is done and its success is reported as a failure.
    FailAfter,
    /// The closure runs before the call is done: whatever may happen in the meantime.
    Delay(Hook),
    /// The call loses so many bytes off the end and succeeds: a put stores fewer, a get brings
    /// fewer, a range ends in zeros. A listing loses as many objects.
    Truncate(u64),
    /// A put or deletion fails, and is done at [`FaultStore::land`]: it was under way for long.
    Late,
    /// A put or deletion is done, and once more at [`FaultStore::land`]: it was sent twice.
    Again,
    /// A put or deletion is acknowledged and never done.
    Lie,
    /// A listing shows what the closure makes of it: it lags, or hides something.
    Show(Lens),
    /// This call and all later ones fail and nothing is done: a crash just before it.
    StopBefore,
    /// The call is done; it and all later ones fail: a crash just after it.
    StopAfter,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailBefore => f.write_str("FailBefore"),
            Self::FailAfter => f.write_str("FailAfter"),
            Self::Delay(_) => f.write_str("Delay"),
            Self::Truncate(bytes) => write!(f, "Truncate({bytes})"),
            Self::Late => f.write_str("Late"),
            Self::Again => f.write_str("Again"),
            Self::Lie => f.write_str("Lie"),
            Self::Show(_) => f.write_str("Show"),
            Self::StopBefore => f.write_str("StopBefore"),
            Self::StopAfter => f.write_str("StopAfter"),
        }
    }
}

/// Which calls are disturbed, and how.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    rules: Vec<Rule>,
    random: Option<Random>,
    director: Option<Arc<dyn Director>>,
}

#[derive(Debug, Clone)]
struct Rule {
    kind: Option<CallKind>,
    prefix: String,
    numbers: RangeInclusive<u64>,
    fault: Fault,
}

#[derive(Debug, Clone, Copy)]
struct Random {
    seed: u64,
    probability: f64,
}

impl FaultPlan {
    /// No fault at all, only counting.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// One fault at the call of that number; the first is 1.
    #[must_use]
    pub fn at(number: u64, fault: Fault) -> Self {
        Self::none().and(None, "", number..=number, fault)
    }

    /// One fault at the call of that number among the calls of one kind.
    #[must_use]
    pub fn at_kind(kind: CallKind, number: u64, fault: Fault) -> Self {
        Self::none().and(Some(kind), "", number..=number, fault)
    }

    /// One fault at the call of that number among those whose target starts with `prefix`.
    #[must_use]
    pub fn at_prefix(prefix: &str, number: u64, fault: Fault) -> Self {
        Self::none().and(None, prefix, number..=number, fault)
    }

    /// Adds a fault at calls numbered among those of one kind (or any) whose target starts with
    /// `prefix`. Where several rules meet a call, the first one counts.
    #[must_use]
    pub fn and(
        mut self,
        kind: Option<CallKind>,
        prefix: &str,
        numbers: RangeInclusive<u64>,
        fault: Fault,
    ) -> Self {
        self.rules.push(Rule { kind, prefix: prefix.to_owned(), numbers, fault });
        self
    }

    /// Faults that a retry or a hash can deal with, drawn for each call by its number: failures
    /// before and after, and reads cut short. `probability` is 0 to 1.
    #[must_use]
    pub fn seeded(seed: u64, probability: f64) -> Self {
        Self { random: Some(Random { seed, probability }), ..Self::default() }
    }

    /// Faults as the director says.
    #[must_use]
    pub fn directed(director: Arc<dyn Director>) -> Self {
        Self { director: Some(director), ..Self::default() }
    }
}

/// A fault that came about.
#[derive(Debug, Clone)]
pub struct Hit {
    /// Number of the call, from 1.
    pub number: u64,
    /// The call.
    pub call: Call,
    /// What was done to it. A call refused after a stop shows that stop.
    pub fault: Fault,
}

/// Passes calls on, except as its plan says.
pub struct FaultStore<S> {
    inner: S,
    plan: FaultPlan,
    on_call: Option<Hook>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    /// Calls that each rule has seen.
    matched: Vec<u64>,
    stopped: Option<Fault>,
    hits: Vec<Hit>,
    letters: Vec<Letter>,
}

/// A call that is being done.
struct Turn {
    number: u64,
    call: Call,
    fault: Option<Fault>,
    /// Whether the director was asked.
    directed: bool,
}

impl<S: Store> FaultStore<S> {
    /// Wraps a store.
    #[must_use]
    pub fn new(inner: S, plan: FaultPlan) -> Self {
        let matched = vec![0; plan.rules.len()];
        let state = Mutex::new(State { matched, ..State::default() });
        Self { inner, plan, on_call: None, state }
    }

    /// Runs `hook` before every call, whether that is then disturbed or not.
    #[must_use]
    pub fn with_hook(mut self, hook: Hook) -> Self {
        self.on_call = Some(hook);
        self
    }

    /// How many calls there were, failed ones included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// The faults that came about, in order.
    #[must_use]
    pub fn hits(&self) -> Vec<Hit> {
        self.state().hits.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, call: Call) -> Result<Turn, StoreError> {
        if let Some(hook) = &self.on_call {
            hook(&call);
        }
        let director = self.plan.director.as_ref().filter(|_| self.state().stopped.is_none());
        let said = director.and_then(|director| director.before(&call));
        let turn = self.draw(call, said, director.is_some());
        match &turn.fault {
            Some(Fault::FailBefore | Fault::StopBefore) => Err(self.fail(turn)),
            // The store stopped at an earlier call.
            Some(Fault::StopAfter) if self.state().stopped.is_some() => Err(self.fail(turn)),
            Some(Fault::Delay(closure)) => {
                self.hit(&turn);
                closure(&turn.call);
                Ok(turn)
            }
            _ => Ok(turn),
        }
    }

    fn end<T>(&self, turn: Turn, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.tell(&turn);
        match turn.fault {
            Some(Fault::StopAfter) => {
                self.state().stopped = Some(Fault::StopAfter);
                result.and_then(|_| Err(self.failure(&turn)))
            }
            Some(Fault::FailAfter) => result.and_then(|_| Err(self.failure(&turn))),
            _ => result,
        }
    }

    /// Tells the director that a call has ended.
    fn tell(&self, turn: &Turn) {
        if let Some(director) = self.plan.director.as_ref().filter(|_| turn.directed) {
            director.after(&turn.call);
        }
    }

    /// Numbers a call and finds its fault.
    fn draw(&self, call: Call, said: Option<Fault>, directed: bool) -> Turn {
        let mut state = self.state();
        state.calls += 1;
        let number = state.calls;
        let mut fault = None;
        for (rule, matched) in self.plan.rules.iter().zip(&mut state.matched) {
            let kind = rule.kind.is_none_or(|kind| kind == call.kind);
            if kind && call.target.starts_with(&rule.prefix) {
                *matched += 1;
                if fault.is_none() && rule.numbers.contains(matched) {
                    fault = Some(rule.fault.clone());
                }
            }
        }
        let random = || self.plan.random.and_then(|random| random.draw(number, call.kind));
        let fault = state.stopped.clone().or(said).or(fault).or_else(random);
        if let Some(Fault::StopBefore) = fault {
            state.stopped = Some(Fault::StopBefore);
        }
        Turn { number, call, fault, directed }
    }

    /// How many of `len` bytes or objects are left of a call.
    fn left(&self, turn: &Turn, len: usize) -> usize {
        let Some(Fault::Truncate(cut)) = turn.fault else { return len };
        let left = len.saturating_sub(usize::try_from(cut).unwrap_or(usize::MAX));
        if left < len {
            self.hit(turn);
        }
        left
    }

    fn hit(&self, turn: &Turn) {
        if let Some(fault) = turn.fault.clone() {
            let hit = Hit { number: turn.number, call: turn.call.clone(), fault };
            self.state().hits.push(hit);
        }
    }

    /// Ends a call that is not done.
    fn fail(&self, turn: Turn) -> StoreError {
        self.tell(&turn);
        self.failure(&turn)
    }

    fn failure(&self, turn: &Turn) -> StoreError {
        self.hit(turn);
        StoreError::Io {
            action: turn.call.to_string(),
            location: self.inner.location(),
            source: io::Error::other(format!("injected fault at call {}", turn.number)),
        }
    }
}

impl Random {
    fn draw(self, number: u64, kind: CallKind) -> Option<Fault> {
        let mut state = self.seed ^ number.wrapping_mul(0xd134_2543_de82_ef95);
        // 53 bits are what an f64 holds exactly.
        let chance = (splitmix64(&mut state) >> 11) as f64 / (1_u64 << 53) as f64;
        if chance >= self.probability {
            return None;
        }
        let reads = matches!(kind, CallKind::Get | CallKind::GetRange);
        let choice = splitmix64(&mut state);
        match choice % if reads { 3 } else { 2 } {
            0 => Some(Fault::FailBefore),
            1 => Some(Fault::FailAfter),
            _ => Some(Fault::Truncate(1 + splitmix64(&mut state) % 64)),
        }
    }
}

/// The next number of a small generator. Source: Steele, Lea, Flood, OOPSLA 2014.
pub(super) fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl<S: fmt::Debug> fmt::Debug for FaultStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("FaultStore")
            .field("inner", &self.inner)
            .field("plan", &self.plan)
            .field("state", &*state)
            .finish_non_exhaustive()
    }
}

impl<S: Store> Store for FaultStore<S> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn is_far(&self) -> bool {
        self.inner.is_far()
    }

    fn put(&self, name: &ObjectName, payload: &Payload) -> Result<(), StoreError> {
        let turn = self.begin(Call::new(CallKind::Put, name.as_str(), payload.len()))?;
        if self.is_posted(&turn, || Letter::Put(name.clone(), payload.to_vec())) {
            return self.end_posted(turn);
        }
        let len = usize::try_from(payload.len()).unwrap_or(usize::MAX);
        let left = self.left(&turn, len);
        let result = match left < len {
            true => {
                let mut bytes = payload.to_vec();
                bytes.truncate(left);
                self.inner.put(name, &Payload::public(bytes))
            }
            false => self.inner.put(name, payload),
        };
        self.end(turn, result)
    }

    fn get(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>, StoreError> {
        let turn = self.begin(Call::new(CallKind::Get, name.as_str(), 0))?;
        let result = self.inner.get(name, size_max).map(|mut bytes| {
            bytes.truncate(self.left(&turn, bytes.len()));
            bytes
        });
        self.end(turn, result)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        let call = Call::new(CallKind::GetRange, name.as_str(), buffer.len() as u64);
        let turn = self.begin(call)?;
        let result = self.inner.get_range(name, offset, buffer).map(|()| {
            let left = self.left(&turn, buffer.len());
            buffer[left..].fill(0);
        });
        self.end(turn, result)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let turn = self.begin(Call::new(CallKind::List, folder, 0))?;
        let result = self.inner.list(folder).map(|mut objects| {
            objects.truncate(self.left(&turn, objects.len()));
            match &turn.fault {
                Some(Fault::Show(lens)) => {
                    self.hit(&turn);
                    lens(objects)
                }
                _ => objects,
            }
        });
        self.end(turn, result)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let turn = self.begin(Call::new(CallKind::Delete, name.as_str(), 0))?;
        if self.is_posted(&turn, || Letter::Delete(name.clone())) {
            return self.end_posted(turn);
        }
        let result = self.inner.delete(name);
        self.end(turn, result)
    }
}
