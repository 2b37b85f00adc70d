//! Both directions of a compressed connection: raw deflate (RFC 1951), and a sync flush at the end of
//! what is said at once, as Cyrus does it (`lib/prot.c`).

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::LinkError;

/// Bytes that are made at once.
const CHUNK_BYTES: usize = 32 << 10;

/// The state of both streams: about 300 KiB.
#[derive(Debug)]
pub(crate) struct Deflate {
    inflater: Decompress,
    deflater: Compress,
    /// What came from the peer and is still compressed, and how much of it is done with.
    raw: Vec<u8>,
    taken: usize,
    /// There may be more to come of what was taken already.
    more: bool,
    /// Something was deflated since the last flush.
    unflushed: bool,
    ended: bool,
}

impl Deflate {
    /// Both streams at their start; `raw` is what came from the peer already.
    pub fn new(raw: Vec<u8>) -> Self {
        Self {
            inflater: Decompress::new(false),
            deflater: Compress::new(Compression::fast(), false),
            raw,
            taken: 0,
            more: false,
            unflushed: false,
            ended: false,
        }
    }

    /// Whether the peer has ended its stream. More than that is not to be had.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Where bytes of the peer go; only when [`Deflate::inflate`] has found nothing any more.
    pub fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.raw
    }

    /// Appends at most a chunk of what the peer said; tells whether that was anything.
    pub fn inflate(&mut self, into: &mut Vec<u8>) -> Result<bool, LinkError> {
        let start = into.len();
        while into.len() == start && !self.ended && (self.more || self.taken < self.raw.len()) {
            into.reserve(CHUNK_BYTES);
            let input = self.raw.get(self.taken..).unwrap_or_default();
            let before = self.inflater.total_in();
            let room = into.capacity();
            let status = self.inflater.decompress_vec(input, into, FlushDecompress::None);
            let status = status.map_err(|_| LinkError::Inflate)?;
            let taken = self.inflater.total_in() - before;
            self.taken += usize::try_from(taken).map_err(|_| LinkError::Inflate)?;
            self.more = into.len() == room;
            self.ended = status == Status::StreamEnd;
            if taken == 0 && into.len() == start {
                break;
            }
        }
        if self.taken >= self.raw.len() {
            self.raw.clear();
            self.taken = 0;
        }
        Ok(into.len() > start)
    }

    /// Gives back the memory of the input while nothing is to be done.
    pub fn rest(&mut self) {
        if self.raw.is_empty() {
            self.raw = Vec::new();
        }
    }

    /// Deflates and appends what comes of it.
    pub fn deflate(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), LinkError> {
        self.unflushed |= !bytes.is_empty();
        while !bytes.is_empty() {
            let taken = self.step(bytes, FlushCompress::None, out)?;
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Appends all that was held back, so that the peer can read to the end.
    pub fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), LinkError> {
        while std::mem::take(&mut self.unflushed) {
            self.step(&[], FlushCompress::Sync, out)?;
            // Full to the brim: there may be more.
            self.unflushed = out.len() == out.capacity();
        }
        Ok(())
    }

    fn step(
        &mut self,
        bytes: &[u8],
        flush: FlushCompress,
        out: &mut Vec<u8>,
    ) -> Result<usize, LinkError> {
        out.reserve(CHUNK_BYTES);
        let before = self.deflater.total_in();
        self.deflater.compress_vec(bytes, out, flush).map_err(|_| LinkError::Deflate)?;
        usize::try_from(self.deflater.total_in() - before).map_err(|_| LinkError::Deflate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflated(deflate: &mut Deflate) -> Vec<u8> {
        let mut out = Vec::new();
        while deflate.inflate(&mut out).expect("it can be inflated") {}
        out
    }

    #[test]
    fn what_is_deflated_is_inflated_and_ends_in_a_sync_flush() {
        let mut peer = Deflate::new(Vec::new());
        let mut ours = Deflate::new(Vec::new());
        let long: Vec<u8> =
            (0..300_000_u32).flat_map(|n| (n % 9973 * 31 % 7919).to_le_bytes()).collect();
        for text in [&b"OK success\r\n"[..], &long, b"", b"x"] {
            let mut wire = Vec::new();
            peer.deflate(text, &mut wire).expect("it can be deflated");
            peer.flush(&mut wire).expect("it can be flushed");
            assert_eq!(wire.is_empty(), text.is_empty());
            assert!(text.is_empty() || wire.ends_with(&[0, 0, 0xff, 0xff]));
            ours.raw().extend_from_slice(&wire);
            assert!(inflated(&mut ours) == text, "{} bytes", text.len());
        }
    }

    #[test]
    fn a_bomb_is_inflated_by_the_chunk() {
        let mut peer = Deflate::new(Vec::new());
        let mut wire = Vec::new();
        peer.deflate(&vec![0; 64 << 20], &mut wire).expect("it can be deflated");
        peer.flush(&mut wire).expect("it can be flushed");
        let mut ours = Deflate::new(wire);
        let (mut total, mut most) = (0, 0);
        loop {
            let mut chunk = Vec::new();
            if !ours.inflate(&mut chunk).expect("it can be inflated") {
                break;
            }
            total += chunk.len();
            most = most.max(chunk.capacity());
        }
        assert_eq!(total, 64 << 20);
        assert!(most <= CHUNK_BYTES, "{most}");
    }

    #[test]
    fn rubbish_is_an_error() {
        let mut ours = Deflate::new(b"GET USER alice\r\n".to_vec());
        let mut out = Vec::new();
        let mut result = Ok(true);
        while matches!(result, Ok(true)) {
            result = ours.inflate(&mut out);
        }
        assert!(matches!(result, Err(LinkError::Inflate)), "{result:?}");
    }
}
