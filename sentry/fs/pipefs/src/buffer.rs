//! The bytes in a pipe, with the borders of packets where a writer asked for them (O_DIRECT).

use std::collections::VecDeque;

/// A run of bytes: a packet, of which a read takes all or drops the rest, or plain stream.
struct Run {
    len: usize,
    packet: bool,
}

#[derive(Default)]
pub(crate) struct Buffer {
    bytes: VecDeque<u8>,
    /// Never empty runs; neighbouring stream runs are joined. No packet was ever written while this stays empty or holds one stream run.
    runs: VecDeque<Run>,
}

impl Buffer {
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn clear(&mut self) {
        *self = Buffer::default();
    }

    /// Pages that packets would take in Linux's pipe, where each has a page of its own.
    pub fn packets(&self) -> usize {
        self.runs.iter().filter(|r| r.packet).count()
    }

    pub fn push(&mut self, src: &[u8], packet: bool) {
        if src.is_empty() {
            return;
        }
        self.bytes.extend(src);
        match self.runs.back_mut() {
            Some(last) if !packet && !last.packet => last.len += src.len(),
            _ => self.runs.push_back(Run { len: src.len(), packet }),
        }
    }

    /// Puts stream bytes back in front.
    pub fn push_front(&mut self, src: &[u8], packet: bool) {
        if src.is_empty() {
            return;
        }
        for byte in src.iter().rev() {
            self.bytes.push_front(*byte);
        }
        match self.runs.front_mut() {
            Some(first) if !packet && !first.packet => first.len += src.len(),
            _ => self.runs.push_front(Run { len: src.len(), packet }),
        }
    }

    /// Takes up to `dst.len()` bytes; a packet ends the read, and what does not fit of it is lost.
    pub fn pop(&mut self, dst: &mut [u8]) -> usize {
        let mut done = 0;
        while done < dst.len() {
            let Some(run) = self.runs.front_mut() else { break };
            let n = run.len.min(dst.len() - done);
            let packet = run.packet;
            let gone = if packet { run.len } else { n };
            run.len -= gone;
            if run.len == 0 {
                self.runs.pop_front();
            }
            copy(&self.bytes, 0, &mut dst[done..done + n]);
            self.bytes.drain(..gone);
            done += n;
            if packet {
                break;
            }
        }
        if self.bytes.is_empty() && self.bytes.capacity() > 2 * crate::pipe::DEFAULT_CAPACITY {
            self.bytes = VecDeque::new();
        }
        done
    }

    /// Copies up to `dst.len()` bytes from `skip` on, without taking them.
    pub fn peek(&self, skip: usize, dst: &mut [u8]) -> usize {
        let n = dst.len().min(self.bytes.len().saturating_sub(skip));
        copy(&self.bytes, skip, &mut dst[..n]);
        n
    }

    /// Length of the first run, and whether it is a packet.
    pub fn first(&self) -> Option<(usize, bool)> {
        self.runs.front().map(|r| (r.len, r.packet))
    }
}

fn copy(bytes: &VecDeque<u8>, skip: usize, dst: &mut [u8]) {
    let (a, b) = bytes.as_slices();
    let a = a.get(skip..).unwrap_or(&[]);
    let b = b.get(skip.saturating_sub(bytes.as_slices().0.len())..).unwrap_or(&[]);
    let n = a.len().min(dst.len());
    dst[..n].copy_from_slice(&a[..n]);
    let rest = dst.len() - n;
    dst[n..].copy_from_slice(&b[..rest]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_end_reads_and_lose_their_rest() {
        let mut b = Buffer::default();
        b.push(b"abc", true);
        b.push(b"de", false);
        b.push(b"fg", false);
        let mut dst = [0; 8];
        assert_eq!(b.pop(&mut dst[..2]), 2);
        assert_eq!(b.len(), 4);
        assert_eq!(b.pop(&mut dst), 4);
        assert_eq!(&dst[..4], b"defg");
        assert!(b.is_empty());
    }

    #[test]
    fn wrapped_bytes_come_in_order() {
        let mut b = Buffer::default();
        let mut out = Vec::new();
        let mut next = 0u8;
        for round in 0..200usize {
            let chunk: Vec<u8> = (0..round % 37)
                .map(|_| {
                    next = next.wrapping_add(1);
                    next
                })
                .collect();
            b.push(&chunk, false);
            let mut dst = vec![0; round % 23];
            let n = b.pop(&mut dst);
            out.extend_from_slice(&dst[..n]);
            let mut peeked = vec![0; 5];
            let p = b.peek(3, &mut peeked);
            if p == 5 {
                assert_eq!(peeked[0], (out.len() as u8).wrapping_add(4));
            }
        }
        for (i, v) in out.iter().enumerate() {
            assert_eq!(*v, (i as u8).wrapping_add(1));
        }
        b.push_front(b"xy", false);
        let mut dst = [0; 2];
        b.pop(&mut dst);
        assert_eq!(&dst, b"xy");
    }
}
