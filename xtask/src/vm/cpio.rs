//! Writes an initramfs: a `newc` archive (kernel: Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! The kernel unpacks several archives that stand behind one another as if they were one.

use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

/// An archive being written.
pub(crate) struct Archive<W> {
    out: W,
    written: usize,
    inode: u32,
}

/// What an entry has besides its name and its bytes.
#[derive(Clone, Copy)]
struct Meta {
    /// Type and permissions, as in `st_mode`.
    mode: u32,
    uid: u32,
    gid: u32,
}

impl<W: Write> Archive<W> {
    pub(crate) const fn new(out: W) -> Self {
        Self { out, written: 0, inode: 0 }
    }

    /// A directory; the ones above it have to be there already.
    pub(crate) fn dir(&mut self, name: &str) -> io::Result<()> {
        self.entry(name.as_bytes(), Meta { mode: DIRECTORY | 0o755, uid: 0, gid: 0 }, &[])
    }

    /// A file of root's that all may read, and run if `is_program`.
    pub(crate) fn file(&mut self, name: &str, bytes: &[u8], is_program: bool) -> io::Result<()> {
        let mode = if is_program { 0o755 } else { 0o644 };
        self.entry(name.as_bytes(), Meta { mode: FILE | mode, uid: 0, gid: 0 }, bytes)
    }

    /// Ends the archive and gives back what it was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry(b"TRAILER!!!", Meta { mode: 0, uid: 0, gid: 0 }, &[])?;
        Ok(self.out)
    }

    fn entry(&mut self, name: &[u8], meta: Meta, bytes: &[u8]) -> io::Result<()> {
        let size = u32::try_from(bytes.len())
            .map_err(|_| io::Error::other("the archive holds no file of 4 GiB or more"))?;
        self.inode += 1;
        let name_size = u32::try_from(name.len()).unwrap_or(0) + 1;
        let links = 1;
        let fields = [self.inode, meta.mode, meta.uid, meta.gid, links, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut head = b"070701".to_vec();
        for field in fields {
            write!(head, "{field:08x}")?;
        }
        head.extend(name);
        head.push(0);
        self.padded(&head)?;
        self.padded(bytes)
    }

    /// Header with name, and data, both end on a multiple of 4.
    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len();
        let gap = self.written.next_multiple_of(4) - self.written;
        self.written += gap;
        self.out.write_all(&[0; 4][..gap])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_kernels_form() {
        let mut archive = Archive::new(Vec::new());
        archive.dir("bin").unwrap();
        archive.file("bin/x", b"hello", true).unwrap();
        let bytes = archive.finish().unwrap();
        // 110 bytes of head and "bin\0" are 114, padded to 116.
        assert_eq!(&bytes[..22], b"0707010000000100004".iter().chain(b"1ed").copied().collect::<Vec<_>>());
        assert_eq!(&bytes[110..116], b"bin\0\0\0");
        assert_eq!(&bytes[116..122], b"070701");
        let data = 116 + (110 + 6_usize).next_multiple_of(4);
        assert_eq!(&bytes[data..data + 8], b"hello\0\0\0");
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"));
        assert_eq!(bytes.len() % 4, 0);
    }
}
