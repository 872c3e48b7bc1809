//! Who gets what in which order.

use super::Line;

/// Fails when the line is ordered by arrival: the second caller found its connection dead and had
/// to line up again.
#[tokio::test]
async fn tickets_decide_not_the_time_of_joining() {
    let line = Line::new();
    assert!(line.is_empty());
    let (first, second, third) = (line.draw(), line.draw(), line.draw());
    let mut places = [line.join(first), line.join(third), line.join(second)];
    for number in 0..3 {
        line.serve(number).expect("somebody waits");
    }
    assert!(line.is_empty());
    assert_eq!(line.serve(3), Err(3));
    let [first, third, second] = &mut places;
    assert_eq!((first.turn().await, second.turn().await, third.turn().await), (0, 1, 2));
}

/// Fails when a place keeps what it was given at the moment its caller went away.
#[tokio::test]
async fn what_nobody_took_goes_to_the_next() {
    let line = Line::new();
    let (first, second) = (line.join(line.draw()), line.join(line.draw()));
    line.serve('a').expect("the first waits");
    drop(first);
    let mut second = second;
    assert_eq!(second.turn().await, 'a');
}

#[test]
fn who_goes_away_leaves_no_gap() {
    let line = Line::new();
    let (first, second) = (line.join(line.draw()), line.join(line.draw()));
    drop(first);
    assert!(!line.is_empty());
    line.serve('a').expect("the second waits");
    drop(second);
    assert!(line.is_empty());
    assert_eq!(line.serve('b'), Err('b'));
}
