//! Packet memory behind owning handles.
//!
//! A [`Pool`] belongs to one worker. [`Buffer`]s are handles without a pointer: they cannot outlive or alias
//! anything, and the one way to the bytes is through the pool that they came from. Freed buffers are given out last
//! in, first out, for what was touched last is still in the cache.
//!
//! Small buffers lie an odd number of cache lines apart: with a power of two every packet's header would fall into
//! the same few sets of the first-level cache. Frames that do not fit (jumbo frames, 64 KiB from GRO) take a large
//! buffer, allocated when first needed and kept for the next.

/// Bytes from one small buffer to the next: 33 cache lines.
pub const STRIDE: usize = 33 * 64;
/// Bytes in front of a received frame, for headers to be pushed.
pub const HEADROOM: usize = 128;
/// The longest frame that a small buffer receives.
pub const SMALL_FRAME: usize = STRIDE - HEADROOM;
/// Bytes of a large buffer: headroom, a 64 KiB payload and its headers.
pub const LARGE: usize = HEADROOM + 65_536 + 512;
/// Large buffers of one pool; beyond them large frames are dropped.
pub const MAX_LARGE: usize = 512;

const LARGE_BIT: u32 = 1 << 31;

/// An owned packet buffer of a [`Pool`]. Given back with [`Pool::free`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a buffer that is not freed is lost to its pool"]
pub struct Buffer(u32);

/// The packet memory of one worker.
pub struct Pool {
    small: Vec<u8>,
    free_small: Vec<u32>,
    large: Vec<Box<[u8]>>,
    free_large: Vec<u32>,
    /// Requests that found nothing free.
    pub exhausted: u64,
}

impl Pool {
    /// A pool of `n` small buffers.
    pub fn new(n: u32) -> Self {
        let n = n.min(LARGE_BIT - 1);
        Self {
            small: vec![0; n as usize * STRIDE],
            free_small: (0..n).rev().collect(),
            large: Vec::new(),
            free_large: Vec::new(),
            exhausted: 0,
        }
    }

    /// A buffer for a frame of `len` bytes behind [`HEADROOM`]; `None` if there is none or it is too long for any.
    #[inline]
    pub fn alloc(&mut self, len: usize) -> Option<Buffer> {
        if len <= SMALL_FRAME
            && let Some(index) = self.free_small.pop()
        {
            return Some(Buffer(index));
        }
        self.alloc_large(len)
    }

    #[cold]
    fn alloc_large(&mut self, len: usize) -> Option<Buffer> {
        if len <= LARGE - HEADROOM {
            if let Some(index) = self.free_large.pop() {
                return Some(Buffer(index | LARGE_BIT));
            }
            if self.large.len() < MAX_LARGE {
                self.large.push(vec![0; LARGE].into_boxed_slice());
                return Some(Buffer((self.large.len() - 1) as u32 | LARGE_BIT));
            }
        }
        self.exhausted += 1;
        None
    }

    /// Takes a buffer back.
    #[inline]
    pub fn free(&mut self, buffer: Buffer) {
        if buffer.0 & LARGE_BIT == 0 {
            self.free_small.push(buffer.0);
        } else {
            self.free_large.push(buffer.0 & !LARGE_BIT);
        }
    }

    /// The whole buffer, headroom included.
    #[inline]
    pub fn bytes(&self, buffer: &Buffer) -> &[u8] {
        if buffer.0 & LARGE_BIT == 0 {
            let at = buffer.0 as usize * STRIDE;
            &self.small[at..at + STRIDE]
        } else {
            &self.large[(buffer.0 & !LARGE_BIT) as usize]
        }
    }

    /// The whole buffer, to change.
    #[inline]
    pub fn bytes_mut(&mut self, buffer: &Buffer) -> &mut [u8] {
        if buffer.0 & LARGE_BIT == 0 {
            let at = buffer.0 as usize * STRIDE;
            &mut self.small[at..at + STRIDE]
        } else {
            &mut self.large[(buffer.0 & !LARGE_BIT) as usize]
        }
    }

    /// Copies `from[range]` to `to`, beginning at `at`.
    ///
    /// # Panics
    /// If either range lies outside of its buffer.
    pub fn copy(&mut self, from: &Buffer, range: std::ops::Range<usize>, to: &Buffer, at: usize) {
        match (from.0 & LARGE_BIT != 0, to.0 & LARGE_BIT != 0) {
            (false, false) => {
                let (source, target) = (from.0 as usize * STRIDE, to.0 as usize * STRIDE);
                assert!(range.end <= STRIDE && at + range.len() <= STRIDE, "a copy within the buffers");
                self.small.copy_within(source + range.start..source + range.end, target + at);
            }
            (false, true) => {
                let source = from.0 as usize * STRIDE;
                let source = &self.small[source..source + STRIDE][range.clone()];
                self.large[(to.0 & !LARGE_BIT) as usize][at..at + range.len()].copy_from_slice(source);
            }
            (true, false) => {
                let target = to.0 as usize * STRIDE;
                let target = &mut self.small[target..target + STRIDE][at..at + range.len()];
                target.copy_from_slice(&self.large[(from.0 & !LARGE_BIT) as usize][range]);
            }
            (true, true) => {
                let (source, target) = ((from.0 & !LARGE_BIT) as usize, (to.0 & !LARGE_BIT) as usize);
                if let Ok([source, target]) = self.large.get_disjoint_mut([source, target]) {
                    target[at..at + range.len()].copy_from_slice(&source[range]);
                }
            }
        }
    }

    /// How long a frame `buffer` can hold behind [`HEADROOM`].
    pub fn capacity(buffer: &Buffer) -> usize {
        if buffer.0 & LARGE_BIT == 0 { SMALL_FRAME } else { LARGE - HEADROOM }
    }

    /// Small buffers that are free now.
    pub fn available(&self) -> usize {
        self.free_small.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_in_first_out() {
        let mut pool = Pool::new(2);
        let (a, b) = (pool.alloc(64).unwrap(), pool.alloc(64).unwrap());
        pool.bytes_mut(&a)[0] = 1;
        pool.bytes_mut(&b)[0] = 2;
        assert_eq!((pool.bytes(&a)[0], pool.bytes(&b)[0], pool.available()), (1, 2, 0));
        pool.free(a);
        let again = pool.alloc(64).unwrap();
        assert_eq!(pool.bytes(&again)[0], 1);
        pool.free(again);
        pool.free(b);
        assert_eq!(pool.available(), 2);
    }

    #[test]
    fn large_frames_take_large_buffers() {
        let mut pool = Pool::new(1);
        let big = pool.alloc(65_549).unwrap();
        assert_eq!((Pool::capacity(&big), pool.bytes(&big).len()), (LARGE - HEADROOM, LARGE));
        assert_eq!(pool.alloc(70_000), None);
        assert_eq!((pool.exhausted, pool.available()), (1, 1));
        pool.free(big);
    }
}
