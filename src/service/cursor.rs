//! Timeline cursors: opaque, authenticated, good for one viewer and one room.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::{ReadError, Service};
use crate::domain::{RoomId, UserId};

const ROW_BYTES: usize = 4;
/// 128 bits of the code are plenty for a position that is checked again at every use.
const MAC_BYTES: usize = 16;

impl Service {
    /// The position of a row.
    pub(super) fn cursor(&self, viewer: UserId, room: RoomId, row: u32) -> String {
        let row = row.to_be_bytes();
        let mac = self.cursor_mac(viewer, room, row);
        BASE64.encode([row.as_slice(), &mac].concat())
    }

    /// The row of a position that was made for this viewer and room.
    pub(super) fn cursor_row(
        &self,
        viewer: UserId,
        room: RoomId,
        cursor: &str,
    ) -> Result<u32, ReadError> {
        if cursor.len() > 2 * (ROW_BYTES + MAC_BYTES) {
            return Err(ReadError::Cursor);
        }
        let bytes = BASE64.decode(cursor).map_err(|_| ReadError::Cursor)?;
        let (row, mac) = bytes.split_at_checked(ROW_BYTES).ok_or(ReadError::Cursor)?;
        let row: [u8; ROW_BYTES] = row.try_into().map_err(|_| ReadError::Cursor)?;
        // The code is no secret that could be guessed byte by byte: it gives no access by itself.
        if mac != self.cursor_mac(viewer, room, row) {
            return Err(ReadError::Cursor);
        }
        Ok(u32::from_be_bytes(row))
    }

    fn cursor_mac(&self, viewer: UserId, room: RoomId, row: [u8; ROW_BYTES]) -> [u8; MAC_BYTES] {
        let bound = [b"rows ", viewer.as_str().as_bytes(), room.as_str().as_bytes(), &row].concat();
        let mac = self.inner.keys.cursors.mac(&bound);
        let mut short = [0; MAC_BYTES];
        short.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
        short
    }
}
