//! How many things in an image look like a corner of a QR code, and how long a search for codes would take.
//!
//! The search tries all triples of corners, and fills areas again for each row that crosses one: an image made for that keeps it
//! busy for minutes. Here the same corners are counted in linear time, by the criteria that the search has, so that it is begun
//! only where it ends soon.

use image::GrayImage;

/// Runs of black pixels of one row: from, to, and the place of their area.
type Row = Vec<(usize, usize, usize)>;

/// Pixels that the search would fill.
const FILLED_MAX: usize = 12_000_000;

/// Are there at least three corners, and not many more than `max`, and will the search end soon?
pub(super) fn worth_a_search(image: &GrayImage, max: usize) -> bool {
    let mut areas = Areas::default();
    let rows = rows(&black(image), image.width() as usize, &mut areas);
    let (mut corners, mut filled) = (Vec::new(), 0);
    for row in &rows {
        for three in row.windows(3) {
            let [left, stone, right] = [three[0], three[1], three[2]];
            if !is_cut_through_corner(left, stone, right) {
                continue;
            }
            let [outer, inner, other] = [left.2, stone.2, right.2].map(|place| areas.root(place));
            filled += areas.pixels[outer] + areas.pixels[inner] + areas.pixels[other];
            let ratio = areas.pixels[inner] * 100 / areas.pixels[other].max(1);
            if outer == other && inner != outer && (10..=70).contains(&ratio) && !corners.contains(&(outer, inner)) {
                corners.push((outer, inner));
            }
            if corners.len() > max || filled > FILLED_MAX {
                return false;
            }
        }
    }
    corners.len() >= 3
}

/// 1:1:3:1:1, black and white in turn.
fn is_cut_through_corner(left: (usize, usize, usize), stone: (usize, usize, usize), right: (usize, usize, usize)) -> bool {
    let runs = [left.1 - left.0, stone.0 - left.1, stone.1 - stone.0, right.0 - stone.1, right.1 - right.0];
    let unit = (runs[0] + runs[1] + runs[3] + runs[4]) / 4;
    let error = unit * 3 / 4;
    runs.iter().zip([1, 1, 3, 1, 1]).all(|(run, times)| (times * unit - error..=times * unit + error).contains(run))
}

/// What is black beside its neighbours, as the search sees it.
fn black(image: &GrayImage) -> Vec<bool> {
    let width = image.width() as usize;
    let near = (width / 8).max(1);
    let pixels = image.as_raw();
    let mut black = Vec::with_capacity(pixels.len());
    let (mut ahead, mut back) = (0, 0);
    let mut sums = vec![0; width];
    for (number, row) in pixels.chunks_exact(width).enumerate() {
        sums.fill(0);
        for x in 0..width {
            let (v, u) = if number % 2 == 0 { (width - 1 - x, x) } else { (x, width - 1 - x) };
            back = back * (near - 1) / near + usize::from(row[v]);
            ahead = ahead * (near - 1) / near + usize::from(row[u]);
            sums[v] += back;
            sums[u] += ahead;
        }
        black.extend(row.iter().zip(&sums).map(|(pixel, sum)| usize::from(*pixel) < sum * 95 / (200 * near)));
    }
    black
}

/// Black areas that hang together, as sets that are joined.
#[derive(Default)]
struct Areas {
    parent: Vec<usize>,
    pixels: Vec<usize>,
}

impl Areas {
    fn add(&mut self, pixels: usize) -> usize {
        self.parent.push(self.parent.len());
        self.pixels.push(pixels);
        self.parent.len() - 1
    }

    fn root(&mut self, mut place: usize) -> usize {
        while self.parent[place] != place {
            self.parent[place] = self.parent[self.parent[place]];
            place = self.parent[place];
        }
        place
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        if one != other {
            let (small, large) = if self.pixels[one] < self.pixels[other] { (one, other) } else { (other, one) };
            self.parent[small] = large;
            self.pixels[large] += self.pixels[small];
        }
    }
}

fn rows(black: &[bool], width: usize, areas: &mut Areas) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for pixels in black.chunks_exact(width) {
        let mut row = Row::new();
        let mut from = 0;
        for run in pixels.chunk_by(|one, other| one == other) {
            if run[0] {
                row.push((from, from + run.len(), areas.add(run.len())));
            }
            from += run.len();
        }
        let above = rows.last().map_or(&[][..], Vec::as_slice);
        let mut first = 0;
        for (from, to, place) in &row {
            while above.get(first).is_some_and(|run| run.1 <= *from) {
                first += 1;
            }
            above[first..].iter().take_while(|run| run.0 < *to).for_each(|run| areas.join(*place, run.2));
        }
        rows.push(row);
    }
    rows
}
