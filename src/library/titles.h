// The titles of a file: one column of TSV, CSV or JSON lines, or each line of a plain text.
//
//   tsv    columns between tabs, no quoting; the first line names them
//   csv    RFC 4180: commas, fields in double quotes may hold commas, line ends and "" for "; the first line names them
//   jsonl  an object a line; a column is a key
//   lines  every line a title
//
// A row that cannot be read is left out and named by its line; the others are read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace qkv::library {

struct TitleOptions {
  std::string
      format;  // tsv, csv, jsonl, lines, or empty: by the name's ending, else by the content
  std::string
      column;  // empty: `title` (any case), else the first column with something else than numbers
  bool header = true;  // tsv, csv: the first line names the columns; else they are called 1, 2, …
};

struct Title {
  std::string text;
  std::uint64_t line = 0;  // where the row begins, from 1
};

struct Titles {
  std::string column;
  std::vector<Title> rows;
  std::vector<std::string> notes;  // "line 7: …" for each row left out, the first kMostNotes
  std::uint64_t skipped = 0;       // rows left out
  std::uint64_t blank = 0;         // rows whose title is empty, left out too

  static constexpr std::size_t kMostNotes = 10;
  void skip(std::uint64_t line, const std::string& why);
  // Takes a row's title if it is text: trimmed, not blank, valid UTF-8.
  void add(std::string_view text, std::uint64_t line);
};

// Throws std::runtime_error that names the file and what is wrong with all of it: it cannot be read, is empty, is UTF-16, has
// no such column (and which it has).
Titles read_titles(const std::filesystem::path& path, const TitleOptions& options);

// The name of the column to read: `wanted`, or the first guess as TitleOptions::column says. `text_column` is the first that
// has something else than numbers, or −1. Throws std::runtime_error that lists the columns there are.
std::size_t choose_column(const std::filesystem::path& path, const std::vector<std::string>& names,
                          const std::string& wanted, std::ptrdiff_t text_column);

}  // namespace qkv::library
