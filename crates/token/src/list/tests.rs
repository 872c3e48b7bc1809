//! The statements of lists, which have a text for each combination of filters.

use super::PageQuery;

/// Fails when a filter is compared with, or a column has, a type that a transaction pooler would
/// not get along with.
#[tokio::test]
async fn every_list_has_built_in_types_only() {
    let database = forebay_testkit::database().await;
    let connection = database.connect().await;
    for filters in 0..8_u8 {
        let given = |bit: u8| (filters & (1 << bit) != 0).then(|| "x".to_owned());
        let query = PageQuery {
            symbol: given(0),
            tag: given(1),
            name_prefix: given(2),
            after: String::new(),
            limit: 2,
        };
        let (sql, _) = query.statement();
        let custom = connection.custom_types(sql.text()).await.expect("a statement");
        assert!(custom.is_empty(), "{custom:?} in {}", sql.text());
    }
}
