//! What the JSON form needs to know about a message. The build script writes a constant table for each message and
//! enum, so that nothing is built at run time. (A descriptor pool with the same content takes 16 MB.)

/// A message whose table is known: every message of the contract.
pub trait Described {
    /// Its fields.
    fn table() -> &'static MessageTable;
}

/// The fields of a message.
#[derive(Debug)]
pub struct MessageTable {
    pub(in crate::contract) fields: &'static [FieldTable],
}

/// One field.
#[derive(Debug)]
pub(in crate::contract) struct FieldTable {
    pub(in crate::contract) number: u32,
    /// As in the `.proto` file.
    pub(in crate::contract) name: &'static str,
    /// The same in lowerCamelCase.
    pub(in crate::contract) json_name: &'static str,
    pub(in crate::contract) shape: Shape,
    /// The oneof it is a member of, by position in its message.
    pub(in crate::contract) oneof: Option<u8>,
    /// Of the value, of each element, or of each value of a map.
    pub(in crate::contract) kind: Kind,
}

/// The cardinality of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::contract) enum Shape {
    Single,
    List,
    /// Keys are strings.
    Map,
}

/// The type of a value; well-known types have their own JSON form.
#[derive(Clone, Copy, Debug)]
pub(in crate::contract) enum Kind {
    Double,
    Int32,
    Int64,
    Uint32,
    Bool,
    String,
    Bytes,
    Enum(&'static EnumTable),
    Message(&'static MessageTable),
    Timestamp,
    Duration,
    FieldMask,
}

/// The values of an enum.
#[derive(Debug)]
pub(in crate::contract) struct EnumTable {
    pub(in crate::contract) values: &'static [(i32, &'static str)],
}

impl MessageTable {
    /// A field by either of its names, with its position.
    pub(super) fn by_name(&self, name: &str) -> Option<(usize, &'static FieldTable)> {
        let fields = self.fields.iter().enumerate();
        fields.into_iter().find(|(_, field)| field.json_name == name || field.name == name)
    }

    pub(super) fn by_number(&self, number: u32) -> Option<&'static FieldTable> {
        self.fields.iter().find(|field| field.number == number)
    }
}

impl EnumTable {
    pub(super) fn number(&self, name: &str) -> Option<i32> {
        self.values.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
    }

    pub(super) fn name(&self, number: i32) -> Option<&'static str> {
        self.values.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
    }
}
