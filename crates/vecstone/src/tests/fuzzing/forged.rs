//! Files with pages whose checksums are made to fit what is in them.

use crate::format::crc32c;

const PAGE: usize = 16 << 10;

/// The parts of a file with pages.
pub(crate) struct Forged {
    pub(crate) fields: Vec<u8>,
    pub(crate) data: Vec<u8>,
    /// Magic and version.
    kind: Vec<u8>,
}

fn start(fields: usize, pages: usize) -> usize {
    (16 + fields + pages * 4 + 4).next_multiple_of(64)
}

impl Forged {
    pub(crate) fn of(file: &[u8]) -> Forged {
        let fields = u32::from_le_bytes(file[12..16].try_into().expect("four")) as usize;
        let pages = (0..100).find(|&pages| (file.len() - start(fields, pages)).div_ceil(PAGE) == pages);
        let data = file[start(fields, pages.expect("so many"))..].to_vec();
        Forged { fields: file[16..16 + fields].to_vec(), data, kind: file[..12].to_vec() }
    }

    /// The file, its checksums made right.
    pub(crate) fn sealed(&self) -> Vec<u8> {
        let mut file = self.kind.clone();
        file.extend(u32::try_from(self.fields.len()).expect("short").to_le_bytes());
        file.extend(&self.fields);
        for (page, bytes) in (0u64..).zip(self.data.chunks(PAGE)) {
            let all = [&self.fields[16..32], &page.to_le_bytes(), bytes].concat();
            file.extend(crc32c(&all).to_le_bytes());
        }
        file.extend(crc32c(&file).to_le_bytes());
        file.resize(start(self.fields.len(), self.data.len().div_ceil(PAGE)), 0);
        file.extend(&self.data);
        file
    }
}
