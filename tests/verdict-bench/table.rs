//! Tables of measured shares and means, with 95% intervals, as Markdown and JSON. May not: know what was measured.

use serde_json::{Value, json};

/// Standard deviations that hold 95%.
const WIDTH: f64 = 1.959_964;

/// One measured number.
#[derive(Clone)]
pub enum Cell {
    Text(String),
    /// So many of so many.
    Share(u64, u64),
    Mean {
        mean: f64,
        /// Half of its interval.
        half: f64,
    },
}

impl Cell {
    pub fn text(text: impl std::fmt::Display) -> Self {
        Self::Text(text.to_string())
    }

    /// The mean of what was seen.
    pub fn mean(values: &[f64]) -> Self {
        let count = (values.len() as f64).max(1.0);
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let half = WIDTH * (squares / (count - 1.0).max(1.0) / count).sqrt();
        Self::Mean { mean, half }
    }

    fn markdown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Share(hits, of) => {
                let (low, high) = wilson(*hits, *of);
                let [share, low, high] = [*hits as f64 / (*of).max(1) as f64, low, high].map(brief);
                format!("{share} ({low}-{high})")
            }
            Self::Mean { mean, half } => format!("{mean:.1} ±{half:.1}"),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Share(hits, of) => {
                let (low, high) = wilson(*hits, *of);
                json!({"hits": hits, "of": of, "share": *hits as f64 / (*of).max(1) as f64, "low": low, "high": high})
            }
            Self::Mean { mean, half } => {
                json!({"mean": mean, "low": mean - half, "high": mean + half})
            }
        }
    }
}

/// A share in three or four places, without the zero before the point.
fn brief(share: f64) -> String {
    let text = if share > 0.0 && share < 0.01 {
        format!("{share:.4}")
    } else {
        format!("{share:.3}")
    };
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text.strip_prefix('0') {
        Some("") | None => text.to_owned(),
        Some(places) => places.to_owned(),
    }
}

/// Wilson's interval of a share.
fn wilson(hits: u64, of: u64) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    let (of, z) = (of as f64, WIDTH * WIDTH);
    let share = hits as f64 / of;
    let middle = (share + z / (2.0 * of)) / (1.0 + z / of);
    let half = WIDTH / (1.0 + z / of) * (share * (1.0 - share) / of + z / (4.0 * of * of)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

pub struct Table {
    pub name: &'static str,
    pub about: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new(name: &'static str, about: impl Into<String>, columns: &[&str]) -> Self {
        Self {
            name,
            about: about.into(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    pub fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("### {}\n\n{}\n\n", self.name, self.about);
        text += &line(self.columns.clone());
        text += &line(vec!["---".to_owned(); self.columns.len()]);
        for row in &self.rows {
            text += &line(row.iter().map(Cell::markdown).collect());
        }
        text
    }

    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let cells = self.columns.iter().cloned().zip(row.iter().map(Cell::json));
            Value::Object(cells.collect())
        });
        json!({"name": self.name, "about": self.about, "rows": rows.collect::<Vec<_>>()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_wilsons() {
        // 3 of 100: .0103 to .0845, and none of 1,000: 0 to .0038.
        let (low, high) = wilson(3, 100);
        assert!(
            (low - 0.010_25).abs() < 1e-5 && (high - 0.084_52).abs() < 1e-5,
            "{low} {high}"
        );
        let (low, high) = wilson(0, 1000);
        assert!(low < 1e-12 && (high - 0.003_827).abs() < 1e-6, "{high}");
        assert_eq!(Cell::Share(3, 100).markdown(), ".03 (.01-.085)");
        assert_eq!(Cell::Share(0, 1000).markdown(), "0 (0-.0038)");
        assert_eq!(Cell::Share(7, 7).markdown(), "1 (.646-1)");
    }
}
