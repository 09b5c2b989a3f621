//! How many CPUs there are, and how many handlers they want.

/// The CPUs that there are.
const CPUS_FILE: &str = "/sys/devices/system/cpu/present";

/// One more than the highest number of a CPU: as many sockets the kernel wants, one each.
pub(super) fn cpus() -> usize {
    let present = std::fs::read_to_string(CPUS_FILE).unwrap_or_default();
    last_cpu(&present).unwrap_or(0).max(sys::cpu::cores().len().saturating_sub(1)) + 1
}

/// The highest number in a list as `0-3,8`.
fn last_cpu(list: &str) -> Option<usize> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

/// How many handlers per-CPU dispatch wants: one a CPU that we may use; if those are not all, a prime number more, so that the
/// others' upcalls are spread.
pub(super) fn handlers_for(usable: usize, present: usize) -> usize {
    let is_prime = |n: &usize| *n > 1 && (2..*n).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    if usable < present && present > 2 {
        let prime = (usable + 1..).find(is_prime).unwrap_or(present);
        return prime.min(present).max(1);
    }
    usable.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_as_many_as_cpus_or_a_prime() {
        let counts = [(1, 1), (4, 4), (1, 2), (2, 4), (3, 8), (4, 6), (7, 8), (0, 1)];
        assert_eq!(counts.map(|(usable, present)| handlers_for(usable, present)), [1, 4, 1, 3, 5, 5, 8, 1]);
    }

    #[test]
    fn cpu_lists_end_with_the_last() {
        assert_eq!(
            ["0\n", "0-3\n", "0-3,8\n", "0,2,4-5", ""].map(last_cpu),
            [Some(0), Some(3), Some(8), Some(5), None]
        );
    }
}
