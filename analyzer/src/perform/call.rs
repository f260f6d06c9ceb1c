//! One call, as it goes through the pipe: three words, in this machine's byte order.

/// What is called.
pub(super) mod kind {
    pub const MALLOC: u32 = 0;
    pub const CALLOC: u32 = 1;
    /// `posix_memalign`, with the logarithm of the alignment.
    pub const ALIGNED: u32 = 2;
    pub const REALLOC: u32 = 3;
    pub const FREE: u32 = 4;
}

/// A call, packed.
pub(super) type Packed = [u64; 3];

/// A call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    /// Bytes asked for.
    pub size: u64,
    /// The place of the block's address in the table of live blocks.
    pub slot: u32,
    /// The thread, by number.
    pub thread: u32,
    /// See [`kind`].
    pub kind: u32,
    /// For [`kind::ALIGNED`].
    pub alignment_log2: u32,
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

impl Call {
    /// What changes nothing: a call for a place that no table has.
    pub(super) fn nothing(thread: u32) -> Call {
        Call {
            slot: u32::MAX,
            thread,
            ..Call::default()
        }
    }

    pub(super) fn pack(self) -> Packed {
        [
            self.size,
            pair(self.slot, self.thread),
            pair(self.kind, self.alignment_log2),
        ]
    }

    pub(super) fn unpack([size, place, how]: Packed) -> Call {
        Call {
            size,
            slot: place as u32,
            thread: (place >> 32) as u32,
            kind: how as u32,
            alignment_log2: (how >> 32) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_comes_out_as_it_went_in() {
        let call = Call {
            size: u64::MAX - 5,
            slot: u32::MAX,
            thread: 7,
            kind: kind::ALIGNED,
            alignment_log2: 12,
        };
        assert_eq!(Call::unpack(call.pack()), call);
    }
}
