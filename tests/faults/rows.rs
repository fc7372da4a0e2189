//! The fault matrix as a table: which fault, how it comes about here, and what proves that it is
//! borne. `docs/faults.md` is made from it and from the names of the tests.

use super::row::{Row, State};
use State::{NotYet, Partly, Rare, RarePartly, Tested};

const fn row(
    number: u16,
    tier: char,
    fault: &'static str,
    injected: &'static str,
    state: State,
) -> Row {
    Row { number, tier, fault, injected, state }
}

/// Calls of the store that fail, end or are held at a given number.
const WRAPPER: &str = "store wrapper";
const PROXY: &str = "proxy of the tests' own before a real server";
const STRACE: &str = "strace";
const BLOCK_LOG: &str = "a loop device over a file of FUSE that records writes and flushes";

/// Rows of the repository, the stores and the protocol. Numbers never change meaning.
pub(super) const ROWS: &[Row] = &[
    row(1, 'P', "killed before every store call of a backup", "store wrapper; SIGKILL", Tested),
    row(2, 'P', "killed after every store call, the reply unused", WRAPPER, Tested),
    row(
        3,
        'N',
        "SIGKILL at every system call that changes something",
        "strace: at each call of a kind that a thread makes, and each that touches a folder",
        Rare,
    ),
    row(4, 'P', "killed in a restore at every file", "store wrapper; SIGKILL", Tested),
    row(5, 'P', "killed between calls of a collection", WRAPPER, Tested),
    row(6, 'P', "killed while repacking", WRAPPER, Tested),
    row(7, 'P', "killed in `key add`, `remove`, `passwd`", WRAPPER, Tested),
    row(8, 'P', "killed in `init`", WRAPPER, Tested),
    row(9, 'P', "SIGTERM, SIGINT, SIGHUP; the reader of a pipe goes away", "kill; pipe", Tested),
    row(10, 'N', "a worker thread panics", "store wrapper, observer and source that panic", Tested),
    row(11, 'N', "power cut: what was not synced is lost", BLOCK_LOG, Rare),
    row(12, 'N', "torn and reordered writes", BLOCK_LOG, Rare),
    row(
        13,
        'N',
        "the sync of a directory is dropped",
        "strace answers in place of the system; a block log over FUSE",
        RarePartly(
            "a system that says it has synced cannot be seen through, so the last backup is \
             acknowledged and may be lost; those before it and the next are not (where the sync \
             says that it failed, F-023)",
        ),
    ),
    row(14, 'W', "a virtual machine loses power", "qemu, SIGKILL", Rare),
    row(15, 'P', "a backup stops, three collections run, it goes on", WRAPPER, Tested),
    row(
        16,
        'N',
        "a machine sleeps for weeks, past the expiry of its record",
        "store wrapper; the time of the store is given",
        Partly("the store's time passes; the process itself sees no other clock"),
    ),
    row(17, 'P', "no space at every write", "small file system", Tested),
    row(18, 'P', "no space in cache and state", "small file system", Tested),
    row(19, 'P', "no inodes", "small file system", Tested),
    row(20, 'N', "quota exceeded", "btrfs with a limit", Rare),
    row(21, 'P', "a source file gives EIO", STRACE, Tested),
    row(22, 'P', "a pack gives EIO", STRACE, Tested),
    row(23, 'P', "a sync gives EIO", STRACE, Tested),
    row(24, 'P', "EINTR, short reads and writes", STRACE, Tested),
    row(25, 'P', "the file system turns read-only", "remount", Tested),
    row(26, 'P', "a directory of the source refuses", "permissions, without root", Tested),
    row(27, 'N', "the repository is removed under a run", "rename at every store call", Tested),
    row(28, 'P', "bits flip, in every kind of object", "bytes in memory", Tested),
    row(29, 'P', "objects are cut short, of every kind", "bytes in memory", Tested),
    row(30, 'P', "objects are zeroed, swapped, doubled", "bytes in memory", Tested),
    row(31, 'N', "a read brings the bytes of another object", WRAPPER, Tested),
    row(32, 'P', "stray files of other programs", "files in the repository", Tested),
    row(33, 'N', "no case, no hard links", "exFAT by FUSE", Rare),
    row(34, 'N', "sshfs or NFS loses its link", "sshfs; SIGKILL of its ssh", Rare),
    row(35, 'N', "a disk of 1 MB/s", "a loop device over a slow file of FUSE", Rare),
    row(36, 'P', "500, 502, 503 at every request", PROXY, Tested),
    row(37, 'P', "a storm of 503 Slow Down", PROXY, Tested),
    row(38, 'P', "429 with Retry-After", PROXY, Tested),
    row(39, 'P', "200 with an error in its body", PROXY, Tested),
    row(40, 'P', "every reply lost", PROXY, Tested),
    row(41, 'P', "a PUT comes again, later", "proxy; store wrapper", Tested),
    row(42, 'P', "a DELETE comes after everything else", "proxy; store wrapper", Tested),
    row(43, 'P', "an object is acknowledged and absent", "proxy; store wrapper (driver)", Tested),
    row(44, 'P', "half an object shows", "proxy; store wrapper (driver)", Tested),
    row(45, 'P', "a reply is cut, or its length is wrong", PROXY, Tested),
    row(46, 'P', "a range brings the whole", PROXY, Tested),
    row(47, 'P', "lists miss new objects, for half of D at most", "lens on lists; driver", Tested),
    row(48, 'P', "lists show deleted objects", "lens on lists; driver", Tested),
    row(49, 'P', "list pages out of order, doubled; over 1,000 names", PROXY, Tested),
    row(50, 'P', "409 on a create", PROXY, Tested),
    row(51, 'P', "412 for what we created ourselves", PROXY, Tested),
    row(52, 'N', "If-None-Match is ignored", PROXY, Tested),
    row(53, 'P', "credentials expire", PROXY, Tested),
    row(54, 'P', "403 on DELETE: a lock", PROXY, Tested),
    row(55, 'P', "no bucket; another region", PROXY, Tested),
    row(
        56,
        'N',
        "a part of a multipart upload fails",
        "cannot come about: the proxy sees that every pack is one PUT",
        Tested,
    ),
    row(57, 'N', "quota of a bucket", PROXY, Tested),
    row(58, 'N', "403: the clock is wrong", PROXY, Tested),
    row(59, 'N', "an object is archived", PROXY, Tested),
    row(60, 'P', "the store is down", "proxy; given clock", Tested),
    row(61, 'P', "a connection is reset", PROXY, Tested),
    row(62, 'P', "nothing moves any more", PROXY, Tested),
    row(
        63,
        'N',
        "a third of packets lost",
        "iptables, on what comes into a network of its own",
        Rare,
    ),
    row(64, 'N', "1 Mbit/s", "tbf in a network of its own", Rare),
    row(65, 'P', "slow replies", PROXY, Tested),
    row(
        66,
        'N',
        "a name does not resolve, an address changes",
        "a name that is reserved for it",
        Partly("given up and named; an address that changes is not tried"),
    ),
    row(67, 'P', "TLS: a certificate that nobody vouches for", "openssl s_server", Tested),
    row(68, 'P', "restore to another host loses its link", "none", NotYet("not built yet")),
    row(
        69,
        'P',
        "a writer's key deletes and reads",
        "none",
        NotYet("keys of writers are not built"),
    ),
    row(70, 'P', "traces of the model on real code", "calls held by a schedule", Tested),
    row(
        71,
        'P',
        "several hosts at once, any order of store calls, D = 0",
        "the driver: calls held and disturbed by seed",
        Tested,
    ),
    row(72, 'N', "16 real processes, killed at any time", "SIGKILL", Rare),
    row(73, 'P', "two hosts with one identity", "the state directory copied", Tested),
    row(74, 'P', "the parent of a backup is forgotten", WRAPPER, Tested),
    row(75, 'P', "what is restored is collected", WRAPPER, Tested),
    row(76, 'P', "two collections", WRAPPER, Tested),
    row(77, 'P', "a collector sees half of an index", WRAPPER, Tested),
    row(78, 'P', "a record, tree or segment cannot be read", "bytes in memory", Tested),
    row(79, 'P', "a backup during a repack", WRAPPER, Tested),
    row(80, 'N', "clocks ten years off", "the driver: clocks are given", Tested),
    row(81, 'P', "a program too old for the repository", "a feature it does not know", Tested),
];
