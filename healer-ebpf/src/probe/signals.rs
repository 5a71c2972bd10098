//! Which signals are told, and of whom.

const SIGHUP: u32 = 1;
const SIGINT: u32 = 2;
const SIGQUIT: u32 = 3;
const SIGILL: u32 = 4;
pub(super) const SIGTRAP: u32 = 5;
const SIGABRT: u32 = 6;
const SIGBUS: u32 = 7;
const SIGFPE: u32 = 8;
pub(super) const SIGKILL: u32 = 9;
const SIGUSR1: u32 = 10;
const SIGSEGV: u32 = 11;
const SIGUSR2: u32 = 12;
const SIGPIPE: u32 = 13;
const SIGALRM: u32 = 14;
const SIGTERM: u32 = 15;
const SIGSTKFLT: u32 = 16;
const SIGXCPU: u32 = 24;
const SIGXFSZ: u32 = 25;
const SIGVTALRM: u32 = 26;
const SIGPROF: u32 = 27;
const SIGIO: u32 = 29;
const SIGPWR: u32 = 30;
pub(super) const SIGSYS: u32 = 31;

/// What the processor or a filter raises in the task itself: a handler may make it harmless.
pub(super) const FAULTS: u32 =
    1 << SIGILL | 1 << SIGTRAP | 1 << SIGBUS | 1 << SIGFPE | 1 << SIGSEGV | 1 << SIGSYS;
/// Of interest whoever the target is.
pub(super) const ALWAYS: u32 = FAULTS
    | 1 << SIGABRT
    | 1 << SIGKILL
    | 1 << SIGTERM
    | 1 << SIGXCPU
    | 1 << SIGXFSZ
    // Caught, and handed on to oneself: who sent the first one is not told by the second.
    | 1 << SIGHUP
    | 1 << SIGINT
    | 1 << SIGQUIT;
/// Of interest to a tracked target that has no handler for them: with one they are its daily bread. So are all that are
/// not in these masks, the real-time signals.
pub(super) const UNHANDLED: u32 = 1 << SIGUSR1
    | 1 << SIGUSR2
    | 1 << SIGPIPE
    | 1 << SIGALRM
    | 1 << SIGSTKFLT
    | 1 << SIGVTALRM
    | 1 << SIGPROF
    | 1 << SIGIO
    | 1 << SIGPWR;
/// What programs send to themselves as their daily bread, and what needs no word: abort(3) shows in the end itself.
pub(super) const OWN: u32 = 1 << SIGUSR1 | 1 << SIGUSR2 | 1 << SIGABRT;
/// Of interest to a tracked target. To another one the others are told, and what it sends itself, if it has not provided
/// for them: it dies of them (from 6.12 on).
const TRACKED: u32 = ALWAYS | UNHANDLED;
/// The last of the real-time signals.
const SIGNALS: u32 = 64;

/// Most signals end here (SIGCHLD, SIGURG, job control).
#[inline(always)]
pub(super) fn is_of_interest(signal: u32) -> bool {
    if signal > SIGSYS { signal <= SIGNALS } else { TRACKED >> signal & 1 != 0 }
}
