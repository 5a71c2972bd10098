//! The `events!` table: turns one entry into a kind, its probe, a decoder arm and layout checks.

macro_rules! events {
    ($($(#[$doc:meta])* $kind:ident = $id:literal, $module:ident from $category:ident:$tracepoint:ident;)*) => {
        $(pub mod $module;)*

        /// What a record is about. The numbers are those of [`Header::kind`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum EventKind { $($(#[$doc])* $kind = $id,)* }

        impl EventKind {
            /// Every kind, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The name of its payload's, program's and signal's file.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => stringify!($module),)* }
            }
        }

        /// A decoded record, ready for `healer-userspace/src/signal/`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(clippy::large_enum_variant, reason = "lives for one call, on the stack")]
        pub enum Event { $($(#[$doc])* $kind($module::$kind),)* }

        /// One probe per event, in the order of the table.
        pub const PROBES: &[Probe] = &[$(Probe {
            kind: EventKind::$kind,
            program: stringify!($module),
            category: stringify!($category),
            tracepoint: stringify!($tracepoint),
        },)*];

        $(
            impl Kinded for $module::$kind {
                const KIND: EventKind = EventKind::$kind;
            }
            const _: () = assert!(size_of::<Record<$module::$kind>>() <= RECORD_MAX, "record too big");
        )*

        impl Event {
            /// Reads one ring-buffer record.
            ///
            /// # Errors
            /// [`DecodeError`] for any bytes that no program of ours can have sent; it never panics.
            pub fn decode(bytes: &[u8]) -> Result<(Header, Self), DecodeError> {
                let (header, payload) = split_header(bytes)?;
                let event = match header.kind {
                    $($id => Self::$kind(read(header.kind, payload)?),)*
                    unknown => return Err(DecodeError::UnknownKind(unknown)),
                };
                Ok((header, event))
            }

            /// Writes the record as a kernel program would; gives the part of `room` used.
            ///
            /// `None` when it does not fit: [`RECORD_MAX`] bytes always do. For tests and recordings.
            #[must_use]
            pub fn encode<'a>(&self, header: Header, room: &'a mut [u8]) -> Option<&'a [u8]> {
                let size = room.len();
                let mut rest = &mut *room;
                header.put(&mut rest)?;
                match self { $(Self::$kind(payload) => payload.put(&mut rest)?,)* }
                let used = size - rest.len();
                Some(&room[..used])
            }

            /// What the record is about.
            #[must_use]
            pub const fn kind(&self) -> EventKind {
                match self { $(Self::$kind(_) => EventKind::$kind,)* }
            }
        }
    };
}
pub(crate) use events;
