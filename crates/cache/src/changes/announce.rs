//! What an entry of the log says.

use bytes::Bytes;

use crate::changes::announced::Chain;

/// In the place of a schema: the message is about every key of the entity.
const EVERY_KEY: &str = "*";

/// Who changed which key of an entity, and to which version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announcement<'a> {
    /// Who announces it, with the mark that his step ends with.
    pub(crate) chain: Chain,
    pub(crate) mark: u64,
    pub(crate) entity: &'a str,
    pub(crate) what: What<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What<'a> {
    /// A key of entries of one schema.
    Key { schema: u16, version: i64, key_text: &'a str },
    /// Everything that is held of the entity.
    Everything,
}

impl<'a> Announcement<'a> {
    /// `1 chain mark entity schema version key`: the key comes last because it may contain anything.
    /// A version of zero means whatever version there is.
    pub(crate) fn encode(&self) -> Bytes {
        let Self { chain, mark, entity, what } = self;
        let chain = chain.as_str();
        Bytes::from(match what {
            What::Key { schema, version, key_text } => {
                format!("1 {chain} {mark} {entity} {schema} {version} {key_text}")
            }
            What::Everything => format!("1 {chain} {mark} {entity} {EVERY_KEY} 0 "),
        })
    }

    /// `None` for anything else, such as the message of a later release.
    pub(crate) fn decode(message: &'a [u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(message).ok()?.splitn(7, ' ');
        if parts.next()? != "1" {
            return None;
        }
        let chain = Chain::named(parts.next()?)?;
        let mark = parts.next()?.parse().ok()?;
        let (entity, schema) = (parts.next()?, parts.next()?);
        let version = parts.next()?.parse().ok()?;
        let key_text = parts.next()?;
        let what = if schema == EVERY_KEY {
            What::Everything
        } else {
            What::Key { schema: schema.parse().ok()?, version, key_text }
        };
        Some(Self { chain, mark, entity, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_survive_the_wire() {
        let chain = Chain::fresh();
        for (entity, version, key_text) in
            [("token", 42, "a b c"), ("token_by_mint", i64::MAX, ""), ("pool", 0, "ключ \n")]
        {
            let what = What::Key { schema: 7, version, key_text };
            let announcement = Announcement { chain: chain.clone(), mark: 9, entity, what };
            let message = announcement.encode();
            assert_eq!(Announcement::decode(&message), Some(announcement));
        }
        let what = What::Everything;
        let everything = Announcement { chain: chain.clone(), mark: 0, entity: "token", what };
        assert_eq!(Announcement::decode(&everything.encode()), Some(everything.clone()));
        let chain = chain.as_str();
        for other in ["", "2 x", "1 short 1 token 1 2 key", "1 chain"] {
            assert_eq!(Announcement::decode(other.as_bytes()), None);
        }
        for other in ["x token 1 1 key", "1 token x 1 key", "1 token 1 x key", "1 token 1 1"] {
            assert_eq!(Announcement::decode(format!("1 {chain} {other}").as_bytes()), None);
        }
        assert_eq!(Announcement::decode(b"\xff"), None);
    }
}
