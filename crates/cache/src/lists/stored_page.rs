//! Pages of lists in the form in which they are cached: a reply takes the encoded items as they are.
//!
//! A stored page is a message of repeated `bytes` items (field 1) and the cursor of the next page
//! (field 2). It holds the cursor and not the page token: that is signed with a key that another
//! process or a later start may not have.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{self, WireType};

use super::list::Page;
use crate::DecodeError;

/// Fields of the stored form.
const ITEMS: u32 = 1;
const CURSOR: u32 = 2;

/// One page: its items are slices of its stored form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPage {
    encoded: Bytes,
    items: Vec<Bytes>,
    cursor: Bytes,
}

/// How prost reads the stored form.
#[derive(Clone, PartialEq, Message)]
struct Form {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    items: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "2")]
    cursor: Bytes,
}

impl StoredPage {
    /// A page of these items; `cursor` says where the next one begins, if there is one.
    pub fn new<M: Message>(items: &[M], cursor: Option<&[u8]>) -> Self {
        let cursor = Vec::from(cursor.unwrap_or_default());
        let items_bytes: usize =
            items.iter().map(|it| encoding::message::encoded_len(ITEMS, it)).sum();
        let mut encoded = Vec::with_capacity(items_bytes + cursor.len() + 16);
        for item in items {
            encoding::message::encode(ITEMS, item, &mut encoded);
        }
        if !cursor.is_empty() {
            encoding::encode_key(CURSOR, WireType::LengthDelimited, &mut encoded);
            encoding::encode_varint(u64::try_from(cursor.len()).unwrap_or(u64::MAX), &mut encoded);
            encoded.extend_from_slice(&cursor);
        }
        Self::decode(encoded.into()).expect("what was just encoded can be read")
    }

    /// The encoded items, in their order.
    pub fn items(&self) -> &[Bytes] {
        &self.items
    }

    /// Where the next page begins; `None` if this is the last one.
    pub fn cursor(&self) -> Option<&[u8]> {
        (!self.cursor.is_empty()).then_some(&self.cursor)
    }
}

impl Page for StoredPage {
    fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// Nothing is copied.
    fn decode(encoded: Bytes) -> Result<Self, DecodeError> {
        let Form { items, cursor } = Form::decode(encoded.clone()).map_err(DecodeError::because)?;
        Ok(Self { encoded, items, cursor })
    }

    fn decoded_bytes(&self) -> usize {
        self.items.capacity() * size_of::<Bytes>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Item {
        #[prost(int64, tag = "1")]
        number: i64,
        #[prost(string, tag = "2")]
        text: String,
    }

    /// Fails when items are copied: then they are no part of the stored form.
    #[test]
    fn items_are_slices_of_the_stored_form() {
        let items = [Item { number: 1, text: "one".to_owned() }, Item::default()];
        for cursor in [None, Some([7, 8].as_slice())] {
            let page = StoredPage::new(&items, cursor);
            let again = StoredPage::decode(page.encoded().clone()).expect("a page");
            assert_eq!(again, page);
            assert_eq!(page.cursor(), cursor);
            let decoded: Vec<_> =
                page.items().iter().map(|it| Item::decode(it.clone()).expect("an item")).collect();
            assert_eq!(decoded, items);
            let stored = page.encoded().as_ptr_range();
            // An item without a byte is nowhere.
            let mut filled = page.items().iter().filter(|it| !it.is_empty());
            assert!(filled.all(|it| stored.contains(&it.as_ptr())));
        }
        assert_eq!(StoredPage::new::<Item>(&[], None).encoded().len(), 0);
        assert!(StoredPage::decode(Bytes::from_static(b"\x0a\x05x")).is_err());
    }
}
