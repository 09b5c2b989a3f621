//! The processor: prefetch, the time-stamp counter, cores and affinity.

use crate::errno::Errno;

/// Asks for the cache line that `at` begins in. A hint: never faults, never changes anything.
#[inline(always)]
pub fn prefetch<T>(at: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect that the program can see, whatever the address; SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(at).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// The time-stamp counter: cycles of a constant rate on today's processors. Where there is none, nanoseconds.
#[inline(always)]
pub fn tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reading the counter has no preconditions on x86-64 under Linux (the kernel leaves it to user mode).
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is a timespec to write to.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }
}

/// Cycles of [`tsc`] in a second, measured over a few milliseconds.
pub fn tsc_hz() -> u64 {
    let (start, clock) = (tsc(), std::time::Instant::now());
    while clock.elapsed() < std::time::Duration::from_millis(5) {
        std::hint::spin_loop();
    }
    let (cycles, nanos) = (tsc() - start, clock.elapsed().as_nanos().max(1));
    u64::try_from(u128::from(cycles) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// The cores that the calling thread may run on, ascending.
pub fn cores() -> Vec<u32> {
    // SAFETY: a cpu_set_t is plain bits; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable and its true size is given.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) } != 0 {
        return vec![0];
    }
    // SAFETY: every index is below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE)
        .filter(|&core| unsafe { libc::CPU_ISSET(core as usize, &set) })
        .map(|c| c as u32)
        .collect()
}

/// Binds the calling thread to one core.
///
/// # Errors
/// `EINVAL` if there is no such core.
pub fn bind(core: u32) -> Result<(), Errno> {
    if core >= libc::CPU_SETSIZE as u32 {
        return Err(Errno::EINVAL);
    }
    // SAFETY: a cpu_set_t is plain bits; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `core` is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(core as usize, &mut set) };
    // SAFETY: `set` is readable and its true size is given.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } {
        0 => Ok(()),
        _ => Err(Errno::last()),
    }
}

/// The NUMA node of a core, as the kernel's sysfs says; 0 if it does not say.
pub fn numa_of(core: u32) -> u32 {
    std::fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}"))
        .ok()
        .into_iter()
        .flatten()
        .flatten()
        .find_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_counts() {
        let before = tsc();
        prefetch(&before);
        assert!(tsc() > before);
        assert!(tsc_hz() > 1_000_000);
    }

    #[test]
    fn binding() {
        let mine = cores();
        assert!(!mine.is_empty());
        std::thread::spawn(move || {
            bind(mine[0]).unwrap();
            assert_eq!(cores(), [mine[0]]);
            assert_eq!(bind(100_000), Err(Errno::EINVAL));
        })
        .join()
        .unwrap();
    }
}
