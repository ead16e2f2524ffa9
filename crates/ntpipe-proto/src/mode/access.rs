//! Access rights of pipes: the bits, the generic mapping, and what a handle is granted.

use core::fmt;
use core::ops::{BitAnd, BitOr};

use super::Direction;

/// A set of access rights, as an access mask holds them (reference 0.3).
///
/// The names are those of Windows without `FILE_`, except where that would be ambiguous.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Access(u32);

impl Access {
    /// No right at all.
    pub const NONE: Self = Self(0);

    /// To read, peek and, with [`Access::WRITE_DATA`], transact.
    pub const READ_DATA: Self = Self(0x1);
    /// To write, flush and, with [`Access::READ_DATA`], transact.
    pub const WRITE_DATA: Self = Self(0x2);
    /// To create a further instance; the same bit as [`Access::CREATE_PIPE_INSTANCE`].
    pub const APPEND_DATA: Self = Self(0x4);
    /// To create a further instance. [`Access::GENERIC_WRITE`] contains it.
    pub const CREATE_PIPE_INSTANCE: Self = Self::APPEND_DATA;
    /// To read extended attributes, which pipes do not have.
    pub const READ_EA: Self = Self(0x8);
    /// To write extended attributes, which pipes do not have.
    pub const WRITE_EA: Self = Self(0x10);
    /// To execute, which has no meaning for pipes.
    pub const EXECUTE: Self = Self(0x20);
    /// To delete a child, which has no meaning for pipes.
    pub const DELETE_CHILD: Self = Self(0x40);
    /// To query modes and properties.
    pub const READ_ATTRIBUTES: Self = Self(0x80);
    /// To set modes.
    pub const WRITE_ATTRIBUTES: Self = Self(0x100);

    /// To delete, which has no meaning for pipes.
    pub const DELETE: Self = Self(0x0001_0000);
    /// To read owner, group and DACL.
    pub const READ_CONTROL: Self = Self(0x0002_0000);
    /// To change the DACL.
    pub const WRITE_DAC: Self = Self(0x0004_0000);
    /// To change the owner; in an open mode the same bit as `FILE_FLAG_FIRST_PIPE_INSTANCE`.
    pub const WRITE_OWNER: Self = Self(0x0008_0000);
    /// To wait on the handle.
    pub const SYNCHRONIZE: Self = Self(0x0010_0000);
    /// To read and change the SACL.
    pub const ACCESS_SYSTEM_SECURITY: Self = Self(0x0100_0000);
    /// In a request: whatever the descriptor allows.
    pub const MAXIMUM_ALLOWED: Self = Self(0x0200_0000);

    /// In a request: [`Access::ALL_ACCESS`].
    pub const GENERIC_ALL: Self = Self(0x1000_0000);
    /// In a request: [`Access::FILE_GENERIC_EXECUTE`].
    pub const GENERIC_EXECUTE: Self = Self(0x2000_0000);
    /// In a request: [`Access::FILE_GENERIC_WRITE`].
    pub const GENERIC_WRITE: Self = Self(0x4000_0000);
    /// In a request: [`Access::FILE_GENERIC_READ`].
    pub const GENERIC_READ: Self = Self(0x8000_0000);

    /// What [`Access::GENERIC_READ`] means for a pipe.
    pub const FILE_GENERIC_READ: Self = Self(0x0012_0089);
    /// What [`Access::GENERIC_WRITE`] means for a pipe.
    pub const FILE_GENERIC_WRITE: Self = Self(0x0012_0116);
    /// What [`Access::GENERIC_EXECUTE`] means for a pipe.
    pub const FILE_GENERIC_EXECUTE: Self = Self(0x0012_00A0);
    /// Every right there is on a pipe, without that on its SACL.
    pub const ALL_ACCESS: Self = Self(0x001F_01FF);

    /// What the read end of an anonymous pipe is granted (observed 1.46).
    pub const ANONYMOUS_READ_END: Self = Self::FILE_GENERIC_READ.union(Self::WRITE_ATTRIBUTES);
    /// What the write end of an anonymous pipe is granted (observed 1.47).
    pub const ANONYMOUS_WRITE_END: Self = Self::FILE_GENERIC_WRITE.union(Self::READ_ATTRIBUTES);

    /// The rights in this access mask.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The access mask.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether there is no right in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all rights of `other` are in the set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether some right of `other` is in the set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The rights of both sets; `|` for constants.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The rights of this set that are not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The set with each generic right replaced by what it means for a pipe.
    #[doc(alias = "MapGenericMask")]
    pub fn map_generic(self) -> Self {
        let mut mapped = self;
        for (generic, meaning) in GENERIC_MAPPING {
            if self.contains(generic) {
                mapped = mapped.without(generic) | meaning;
            }
        }
        mapped
    }

    /// What a server end of a pipe of this direction is granted (observed 1.40 to 1.42).
    ///
    /// The rights asked for in the open mode come on top (observed 1.43).
    pub fn granted_to_server(direction: Direction) -> Self {
        match direction {
            Direction::Inbound => Self::FILE_GENERIC_READ,
            Direction::Outbound => Self::FILE_GENERIC_WRITE,
            Direction::Duplex => Self::FILE_GENERIC_READ | Self::FILE_GENERIC_WRITE,
        }
    }

    /// What `CreateFile` asks of the pipe for a client that asked for `desired`.
    ///
    /// It maps the generic rights, and adds [`Access::SYNCHRONIZE`] and
    /// [`Access::READ_ATTRIBUTES`], also to nothing (observed 1.44, reference 1.6).
    pub fn requested_by_client(desired: Self) -> Self {
        desired.map_generic() | Self::SYNCHRONIZE | Self::READ_ATTRIBUTES
    }

    /// Whether a client of a pipe of this direction may hold these rights (reference 1.6).
    ///
    /// Reading from an inbound pipe and writing to an outbound one are refused at the open.
    pub fn fits_client(self, direction: Direction) -> bool {
        (direction.client_reads() || !self.contains(Self::READ_DATA))
            && (direction.client_writes() || !self.contains(Self::WRITE_DATA))
    }
}

impl BitOr for Access {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl BitAnd for Access {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access({:#010X})", self.0)
    }
}

const GENERIC_MAPPING: [(Access, Access); 4] = [
    (Access::GENERIC_READ, Access::FILE_GENERIC_READ),
    (Access::GENERIC_WRITE, Access::FILE_GENERIC_WRITE),
    (Access::GENERIC_EXECUTE, Access::FILE_GENERIC_EXECUTE),
    (Access::GENERIC_ALL, Access::ALL_ACCESS),
];
