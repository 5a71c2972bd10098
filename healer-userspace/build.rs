//! Embeds the kernel programs: writes `OUT_DIR/object.rs` with
//! `pub static OBJECT: Option<&[u8]>`, the ELF object aligned to 8 bytes, or `None`.
//!
//! The object is the file named by HEALER_EBPF_OBJECT, else the one that `cargo xtask build` leaves
//! in the target directory. A build without it works: such a healer says that it has no eyes.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

const NAMED_BY: &str = "HEALER_EBPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-env-changed={NAMED_BY}");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let object = match env::var_os(NAMED_BY) {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "{NAMED_BY}={}: no such file", path.display());
            path
        }
        None => {
            let path = default_object(&out_dir);
            hold_the_place(&path);
            path
        }
    };
    println!("cargo::rerun-if-changed={}", object.display());
    let bytes = fs::read(&object).unwrap_or_default();
    write_source(&out_dir, &bytes);
}

/// OUT_DIR is TARGET_DIR[/TRIPLE]/PROFILE/build/PACKAGE-HASH/out.
fn default_object(out_dir: &Path) -> PathBuf {
    let mut target_dir = out_dir.ancestors().nth(4).unwrap_or(out_dir);
    let triple = env::var("TARGET").expect("cargo sets TARGET");
    if target_dir.ends_with(&triple) {
        target_dir = target_dir.parent().unwrap_or(target_dir);
    }
    target_dir.join("ebpf/bpfel-unknown-none/release/healer-ebpf")
}

/// Puts an empty file where the object will be. cargo holds a watched file that is missing for
/// changed on every build; this one is older than any build until the object takes its place.
fn hold_the_place(object: &Path) {
    if object.exists() {
        return;
    }
    let dir = object.parent().unwrap_or(object);
    // A target directory that cannot be written has ended the build before this line.
    let made = fs::create_dir_all(dir).and_then(|()| File::create(object));
    if let Ok(file) = made {
        file.set_modified(UNIX_EPOCH).ok();
    }
}

fn write_source(out_dir: &Path, object: &[u8]) {
    let source = if object.is_empty() {
        "/// The kernel programs: this build has none.\npub static OBJECT: Option<&[u8]> = None;\n"
    } else {
        fs::write(out_dir.join("object.o"), object).expect("OUT_DIR can be written");
        r#"#[repr(C, align(8))]
struct Aligned<Bytes: ?Sized>(Bytes);

static ALIGNED: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/object.o")));

/// The kernel programs, an ELF object aligned to 8 bytes.
pub static OBJECT: Option<&[u8]> = Some(&ALIGNED.0);
"#
    };
    fs::write(out_dir.join("object.rs"), source).expect("OUT_DIR can be written");
}
