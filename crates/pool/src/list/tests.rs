//! The statements of lists, which have a text for each combination of filters.

use uuid::Uuid;

use super::PageQuery;

/// Fails when a filter is compared with, or a column has, a type that a transaction pooler would
/// not get along with.
#[tokio::test]
async fn every_list_has_built_in_types_only() {
    let database = forebay_testkit::database().await;
    let connection = database.connect().await;
    for filters in 0..8_u8 {
        let is_given = |bit: u8| filters & (1 << bit) != 0;
        let query = PageQuery {
            token_id: is_given(0).then(Uuid::nil),
            pair: is_given(1).then(|| [Uuid::nil(), Uuid::max()]),
            dex: is_given(2).then(|| "x".to_owned()),
            after: String::new(),
            limit: 2,
        };
        let (sql, _) = query.statement();
        let custom = connection.custom_types(sql.text()).await.expect("a statement");
        assert!(custom.is_empty(), "{custom:?} in {}", sql.text());
    }
}
