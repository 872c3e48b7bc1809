//! Lists: pages of a table, which any change of the table makes old.

pub(crate) mod collection;
pub(crate) mod list;
pub(crate) mod list_cache;
pub(crate) mod stored_page;
