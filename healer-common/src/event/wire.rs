//! Values with one fixed layout, read and written field by field.

/// An integer, an array of bytes, or a struct of these without hidden padding.
///
/// [`wire!`] implements it for structs and proves the absence of padding at
/// compile time, which is what lets a kernel program write the struct straight
/// into ring memory.
pub trait Wire: Copy {
    /// All bits zero.
    const ZERO: Self;

    /// Takes the value off the front of `bytes`; `None` when they run out.
    fn take(bytes: &mut &[u8]) -> Option<Self>;

    /// Writes the value to the front of `bytes`; `None` when it does not fit.
    fn put(&self, bytes: &mut &mut [u8]) -> Option<()>;
}

macro_rules! wire_integers {
    ($($integer:ty),*) => {$(
        impl Wire for $integer {
            const ZERO: Self = 0;

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let (first, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_ne_bytes(*first))
            }

            fn put(&self, bytes: &mut &mut [u8]) -> Option<()> {
                let (first, rest) = core::mem::take(bytes).split_first_chunk_mut()?;
                *first = self.to_ne_bytes();
                *bytes = rest;
                Some(())
            }
        }
    )*};
}
wire_integers!(u32, i32, u64);

impl<const N: usize> Wire for [u8; N] {
    const ZERO: Self = [0; N];

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*first)
    }

    fn put(&self, bytes: &mut &mut [u8]) -> Option<()> {
        let (first, rest) = core::mem::take(bytes).split_first_chunk_mut()?;
        *first = *self;
        *bytes = rest;
        Some(())
    }
}

/// Defines a `repr(C)` struct of [`Wire`] fields whose size is part of its name.
macro_rules! wire {
    ($(#[$meta:meta])* pub struct $name:ident: $size:literal bytes {
        $($(#[$field_meta:meta])* pub $field:ident: $field_type:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(C)]
        pub struct $name { $($(#[$field_meta])* pub $field: $field_type,)* }

        impl $crate::event::wire::Wire for $name {
            const ZERO: Self = Self {
                $($field: <$field_type as $crate::event::wire::Wire>::ZERO,)*
            };

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: $crate::event::wire::Wire::take(bytes)?,)* })
            }

            fn put(&self, bytes: &mut &mut [u8]) -> Option<()> {
                $($crate::event::wire::Wire::put(&self.$field, bytes)?;)*
                Some(())
            }
        }

        const _: () = assert!(size_of::<$name>() == $size, "the size on the wire changed");
        const _: () = assert!(0 $(+ size_of::<$field_type>())* == $size, "write padding out");
        const _: () = assert!($size % 8 == 0 && align_of::<$name>() <= 8);
    };
}
pub(crate) use wire;
