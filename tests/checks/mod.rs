//! What a check reads and remembers, and what it names for each kind of damage.

mod misread;
mod shares;
mod touched;
