//! Processes: fork, wait, sessions, users, signals, file locks. Everything here is a thin, safe wrapper of one
//! system call; policy (detaching, monitoring) is `daemon::detach`.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Which side of a [`fork`] the caller is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fork {
    /// The original process; the child's pid.
    Parent(i32),
    /// The new process.
    Child,
}

/// How a child ended, as [`wait`] learned it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It exited with this status.
    Exited(i32),
    /// A signal killed it; whether it left a core.
    Killed {
        /// The signal's number.
        signal: i32,
        /// Whether memory was dumped.
        core: bool,
    },
}

fn check(ret: i32) -> io::Result<i32> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// Splits the process in two.
///
/// # Errors
/// If the process has more than one thread (only the calling one would live on, with whatever locks the others
/// held), or if the kernel refuses.
pub fn fork() -> io::Result<Fork> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("cannot fork: the process has several threads"));
    }
    // SAFETY: there is one thread, so that no lock is held by a thread which the child would lack.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Waits until child `pid` ends.
///
/// # Errors
/// If there is no such child.
pub fn wait(pid: i32) -> io::Result<Ended> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call.
        match check(unsafe { libc::waitpid(pid, &raw mut status, 0) }) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
            Ok(_) if libc::WIFEXITED(status) => return Ok(Ended::Exited(libc::WEXITSTATUS(status))),
            Ok(_) if libc::WIFSIGNALED(status) => {
                return Ok(Ended::Killed { signal: libc::WTERMSIG(status), core: libc::WCOREDUMP(status) });
            }
            Ok(_) => {}
        }
    }
}

/// Starts a new session, without a controlling terminal.
///
/// # Errors
/// If the caller leads a process group already.
pub fn setsid() -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Makes the standard descriptors (0, 1, 2) refer to `file`.
///
/// # Errors
/// If the kernel refuses.
pub fn replace_stdio(file: &File) -> io::Result<()> {
    for fd in 0..3 {
        // SAFETY: both are descriptors; the standard ones are owned by nobody in particular.
        check(unsafe { libc::dup2(file.as_raw_fd(), fd) })?;
    }
    Ok(())
}

/// Ends the process by `signal` with its default action, so that the parent sees the true cause of death.
pub fn die_by(signal: i32) -> ! {
    // SAFETY: no pointer but a local, initialised signal set; resetting to the default action installs no handler.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::raise(signal);
    }
    std::process::exit(128 + signal)
}

/// Ignores `signal` from now on (`SIGPIPE`, mostly, which the Rust runtime has ignored already).
pub fn ignore_signal(signal: i32) {
    // SAFETY: installs no handler.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Lets `signal` do again what it does in a program that knows nothing of it: the Rust runtime catches `SIGSEGV` and
/// `SIGBUS` to report overflowing stacks, and survives the first one that another process sends.
pub fn restore_signal(signal: i32) {
    // SAFETY: installs no handler.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Has the kernel send `SIGALRM` in `secs` seconds, which by default ends the process.
pub fn alarm(secs: u32) {
    // SAFETY: takes no pointer.
    unsafe { libc::alarm(secs) };
}

/// Forbids core dumps.
///
/// # Errors
/// If the kernel refuses.
pub fn disable_core_dumps() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` outlives the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) }).map(drop)
}

/// Locks all memory of the process, present and future.
///
/// # Errors
/// If the kernel refuses (`RLIMIT_MEMLOCK`).
pub fn lock_memory() -> io::Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) }).map(drop)
}

/// Takes a write lock on the whole of `file` (`fcntl`, owned by the process), without waiting.
///
/// # Errors
/// If another process holds one (`EACCES`, `EAGAIN`).
pub fn lock_file(file: &File) -> io::Result<()> {
    let mut lock = whole_file();
    // SAFETY: `lock` outlives the call.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw mut lock) }).map(drop)
}

/// The pid of the process that holds a lock on `file`, if another one does.
///
/// # Errors
/// If the kernel refuses.
pub fn lock_owner(file: &File) -> io::Result<Option<i32>> {
    let mut lock = whole_file();
    // SAFETY: `lock` outlives the call.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) })?;
    Ok((i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid))
}

fn whole_file() -> libc::flock {
    // SAFETY: `flock` is a C struct of integers, for which zeroes are valid.
    let mut lock = unsafe { std::mem::zeroed::<libc::flock>() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

/// Whether the process runs with root's rights.
pub fn is_root() -> bool {
    // SAFETY: takes no pointer.
    unsafe { libc::geteuid() == 0 }
}

/// Sets the file creation mask, and gives the former one.
pub fn umask(mask: u32) -> u32 {
    // SAFETY: takes no pointer.
    unsafe { libc::umask(mask) }
}

/// Gives memory that was freed back to the system, as far as the allocator can.
pub fn trim_memory() {
    // SAFETY: takes no pointer. It locks the heap like every other call of the allocator.
    unsafe { libc::malloc_trim(0) };
}

/// Becomes user `uid` and group `gid` with the supplementary groups of `name`, for good, keeping `capabilities` (bit
/// numbers of `linux/capability.h`).
///
/// # Errors
/// If the kernel refuses any step.
pub fn become_user(name: &str, uid: u32, gid: u32, capabilities: &[u32]) -> io::Result<()> {
    let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: `name` is a C string that outlives the call; the others take integers.
    unsafe {
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
        check(libc::initgroups(name.as_ptr(), gid))?;
        check(libc::setresgid(gid, gid, gid))?;
        check(libc::setresuid(uid, uid, uid))?;
    }
    set_capabilities(capabilities)
}

/// `struct __user_cap_header_struct` and two of `struct __user_cap_data_struct` of `linux/capability.h`.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn set_capabilities(capabilities: &[u32]) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = CapHeader { version: VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    for &cap in capabilities.iter().filter(|&&cap| cap < 64) {
        let word = &mut data[(cap / 32) as usize];
        word.effective |= 1 << (cap % 32);
        word.permitted |= 1 << (cap % 32);
    }
    // SAFETY: the kernel reads a header and, for version 3, two data records, all of which outlive the call.
    let ret = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// User and system CPU time, page faults, disk operations and context switches of the process so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Milliseconds in user mode.
    pub user_ms: u64,
    /// Milliseconds in the kernel.
    pub system_ms: u64,
    /// Faults served without a disk.
    pub minor_faults: u64,
    /// Faults that read a disk.
    pub major_faults: u64,
    /// Blocks read.
    pub reads: u64,
    /// Blocks written.
    pub writes: u64,
    /// Times the process slept.
    pub voluntary: u64,
    /// Times the scheduler took the CPU away.
    pub involuntary: u64,
}

/// The resources that the calling thread has used.
pub fn thread_usage() -> Usage {
    usage(libc::RUSAGE_THREAD)
}

/// The resources that the process has used.
pub fn process_usage() -> Usage {
    usage(libc::RUSAGE_SELF)
}

/// The most memory that the process has had, in bytes.
pub fn peak_memory() -> u64 {
    u64::try_from(raw_usage(libc::RUSAGE_SELF).ru_maxrss).unwrap_or(0) * 1024
}

fn raw_usage(of: libc::c_int) -> libc::rusage {
    // SAFETY: `rusage` is a C struct of integers, for which zeroes are valid; it outlives the call.
    unsafe {
        let mut raw = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(of, &raw mut raw);
        raw
    }
}

fn usage(of: libc::c_int) -> Usage {
    let raw = raw_usage(of);
    let number = |v: libc::c_long| u64::try_from(v).unwrap_or(0);
    let ms = |t: libc::timeval| number(t.tv_sec) * 1000 + number(t.tv_usec) / 1000;
    Usage {
        user_ms: ms(raw.ru_utime),
        system_ms: ms(raw.ru_stime),
        minor_faults: number(raw.ru_minflt),
        major_faults: number(raw.ru_majflt),
        reads: number(raw.ru_inblock),
        writes: number(raw.ru_oublock),
        voluntary: number(raw.ru_nvcsw),
        involuntary: number(raw.ru_nivcsw),
    }
}

/// The monotonic clock, in nanoseconds since the machine started.
pub fn monotonic_nanos() -> u64 {
    clock_nanos(libc::CLOCK_MONOTONIC)
}

fn clock_nanos(id: libc::clockid_t) -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` outlives the call.
    unsafe { libc::clock_gettime(id, &raw mut t) };
    u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap_or(0)
}

/// A moment of the civil calendar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    /// The year, as 2026.
    pub year: i32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 (Sunday) to 6.
    pub weekday: u32,
    /// 1 to 366.
    pub yearday: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 60.
    pub second: u32,
    /// Seconds east of UTC.
    pub offset: i64,
}

/// The civil time `secs` seconds after 1970 in the machine's time zone (`utc`: in UTC).
pub fn civil(secs: i64, utc: bool) -> Civil {
    // SAFETY: `tm` is a C struct for which zeroes are valid (its pointer member may be null); both pointers outlive
    // the call, which keeps neither.
    let tm = unsafe {
        let mut tm = std::mem::zeroed::<libc::tm>();
        if utc {
            libc::gmtime_r(&raw const secs, &raw mut tm);
        } else {
            libc::localtime_r(&raw const secs, &raw mut tm);
        }
        tm
    };
    let field = |v: i32| u32::try_from(v).unwrap_or(0);
    Civil {
        year: tm.tm_year + 1900,
        month: field(tm.tm_mon) + 1,
        day: field(tm.tm_mday),
        weekday: field(tm.tm_wday),
        yearday: field(tm.tm_yday) + 1,
        hour: field(tm.tm_hour),
        minute: field(tm.tm_min),
        second: field(tm.tm_sec),
        offset: tm.tm_gmtoff,
    }
}

/// The name of a signal's meaning (`Segmentation fault`), as `strsignal` gives it.
pub fn signal_text(signal: i32) -> String {
    // SAFETY: the returned string is valid until the next call in this thread; it is copied at once.
    unsafe {
        let text = libc::strsignal(signal);
        if text.is_null() {
            format!("signal {signal}")
        } else {
            std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }
}

/// The machine's host name.
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|s| s.trim_end().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_the_c_librarys() {
        assert_eq!(signal_text(11), "Segmentation fault");
    }

    #[test]
    fn civil_time_in_utc() {
        let c = civil(1_795_289_561, true);
        assert_eq!((c.year, c.month, c.day, c.hour, c.minute, c.second), (2026, 11, 21, 19, 32, 41));
        assert_eq!((c.weekday, c.yearday, c.offset), (6, 325, 0));
    }

    #[test]
    fn a_process_does_not_see_its_own_lock() {
        let path = std::env::temp_dir().join(format!("sys-lock-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        lock_file(&file).unwrap();
        assert_eq!(lock_owner(&file).unwrap(), None);
        std::fs::remove_file(path).unwrap();
    }
}
