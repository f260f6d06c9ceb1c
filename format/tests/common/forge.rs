//! Blocks made by hand, after `docs/FORMAT.md`, with checksums that hold: what a hostile or newer writer could write.

/// The fields of a block header that a forger sets.
#[derive(Clone, Copy)]
pub struct Forged {
    pub version: u8,
    pub kind: u8,
    pub flags: u16,
    pub raw_length: Option<u32>,
    pub tape: u64,
    pub sequence: u64,
    pub first_event: u64,
    pub first_time: u64,
    pub last_time: u64,
    pub events: u32,
    pub weight: u32,
    pub records: u32,
    pub generation: u32,
    pub frames: u32,
    pub stacks: u32,
    pub reserved: u32,
}

impl Forged {
    /// The fields of a block that is there.
    pub fn like(block: &[u8]) -> Forged {
        let u32_at = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().unwrap());
        Forged {
            version: block[8],
            kind: block[9],
            flags: u16::from_le_bytes([block[10], block[11]]),
            raw_length: None,
            tape: u64_at(24),
            sequence: u64_at(32),
            first_event: u64_at(40),
            first_time: u64_at(48),
            last_time: u64_at(56),
            events: u32_at(64),
            weight: u32_at(68),
            records: u32_at(72),
            generation: u32_at(76),
            frames: u32_at(80),
            stacks: u32_at(84),
            reserved: u32_at(88),
        }
    }

    /// The block with this content, compressed as the format wants it.
    pub fn block(self, raw: &[u8]) -> Vec<u8> {
        let length = self.raw_length.unwrap_or(raw.len() as u32);
        Forged {
            raw_length: Some(length),
            ..self
        }
        .stored(&compress(raw))
    }

    /// The block with this payload as it is.
    pub fn stored(self, payload: &[u8]) -> Vec<u8> {
        let mut block = b"\x89HTAPE\r\n".to_vec();
        block.extend([self.version, self.kind]);
        block.extend(self.flags.to_le_bytes());
        block.extend((payload.len() as u32).to_le_bytes());
        block.extend(self.raw_length.unwrap_or(0).to_le_bytes());
        block.extend(crc32fast::hash(payload).to_le_bytes());
        for field in [
            self.tape,
            self.sequence,
            self.first_event,
            self.first_time,
            self.last_time,
        ] {
            block.extend(field.to_le_bytes());
        }
        for field in [
            self.events,
            self.weight,
            self.records,
            self.generation,
            self.frames,
            self.stacks,
            self.reserved,
        ] {
            block.extend(field.to_le_bytes());
        }
        let checksum = crc32fast::hash(&block);
        block.extend(checksum.to_le_bytes());
        block.extend(payload);
        block
    }
}

/// One zstd frame with a checksum.
pub fn compress(raw: &[u8]) -> Vec<u8> {
    let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
    compressor
        .set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))
        .unwrap();
    compressor.compress(raw).unwrap()
}

/// The content of a block that is there.
pub fn content(block: &[u8]) -> Vec<u8> {
    zstd::bulk::decompress(&block[96..], 9 << 20).unwrap()
}

/// The content of an events block: its columns.
pub fn columns(block: &[u8]) -> Vec<Vec<u8>> {
    let raw = content(block);
    let mut at = 0;
    let lengths: Vec<usize> = (0..10).map(|_| varint(&raw, &mut at)).collect();
    lengths
        .into_iter()
        .map(|length| {
            at += length;
            raw[at - length..at].to_vec()
        })
        .collect()
}

/// The reverse of [`columns`].
pub fn joined(columns: &[Vec<u8>]) -> Vec<u8> {
    let mut raw = Vec::new();
    for column in columns {
        put_varint(&mut raw, column.len() as u64);
    }
    raw.extend(columns.concat());
    raw
}

/// What events with these control bytes count as: resizes twice, typed events not at all.
pub fn weight(controls: &[u8]) -> u32 {
    let weigh = |control: &u8| match control {
        0xd0..0xe0 => 2,
        0xf0.. => 0,
        _ => 1,
    };
    controls.iter().map(weigh).sum()
}

fn varint(bytes: &[u8], at: &mut usize) -> usize {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        value |= usize::from(byte & 127) << shift;
        shift += 7;
        if byte < 128 {
            return value;
        }
    }
}

pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}
