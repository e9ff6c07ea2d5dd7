// Titles, indices and answers where no model is needed; tests/cli/test_search.py has the whole command.
#include "library/library.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <random>

namespace qkv::library {
namespace {

namespace fs = std::filesystem;

class LibraryFiles : public ::testing::Test {
 protected:
  LibraryFiles()
      : folder_(fs::temp_directory_path() / ("qkv-library-" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~LibraryFiles() override { fs::remove_all(folder_); }

  fs::path write(const std::string& name, const std::string& bytes) const {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return folder_ / name;
  }
  std::string read(const fs::path& path) const {
    std::ifstream stream(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  }

  fs::path folder_;
};

Titles some_titles(int count) {
  Titles titles;
  titles.column = "title";
  for (int i = 0; i < count; ++i) titles.add("title " + std::to_string(i), i + 2);
  titles.skip(99, "is odd");
  return titles;
}

std::vector<float> unit_vectors(int rows, int dim) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> all(static_cast<std::size_t>(rows * dim));
  for (int r = 0; r < rows; ++r) {
    double sum = 0;
    for (int d = 0; d < dim; ++d) {
      all[r * dim + d] = normal(random);
      sum += all[r * dim + d] * all[r * dim + d];
    }
    for (int d = 0; d < dim; ++d) all[r * dim + d] /= static_cast<float>(std::sqrt(sum));
  }
  return all;
}

constexpr Hash kModel{1, 2}, kSource{3, 4};

TEST_F(LibraryFiles, AnIndexComesBackAsItWas) {
  const Index made = Index::make(some_titles(7), 5, kModel, kSource, unit_vectors(7, 5));
  made.write(folder_ / "i");
  const auto index = Index::open(folder_ / "i");
  ASSERT_TRUE(index);
  ASSERT_EQ(index->rows(), 7);
  ASSERT_EQ(index->dim(), 5);
  EXPECT_EQ(index->model(), kModel);
  EXPECT_EQ(index->source(), kSource);
  EXPECT_EQ(index->column(), "title");
  EXPECT_EQ(index->skipped(), 1u);
  EXPECT_EQ(index->notes(), std::vector<std::string_view>{"line 99: is odd"});
  for (int row = 0; row < 7; ++row) {
    EXPECT_EQ(index->title(row), "title " + std::to_string(row));
    EXPECT_EQ(index->line(row), row + 2u);
  }
  EXPECT_EQ(std::vector<float>(index->vectors(), index->vectors() + 35), unit_vectors(7, 5));
}

// Every byte before the vectors, changed, and every length.
TEST_F(LibraryFiles, ADamagedIndexIsNone) {
  Index::make(some_titles(3), 4, kModel, kSource, unit_vectors(3, 4)).write(folder_ / "i");
  const std::string whole = read(folder_ / "i");
  for (std::size_t size = 0; size < whole.size(); size += 7)
    EXPECT_FALSE(Index::open(write("cut", whole.substr(0, size)))) << size;
  for (std::size_t at = 0; at < whole.size() - std::size_t{3} * 4 * 4; at += 5) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x41);
    EXPECT_FALSE(Index::open(write("damaged", damaged))) << at;
  }
}

TEST_F(LibraryFiles, AJournalKeepsWholeBlocks) {
  const fs::path path = folder_ / "j";
  const std::vector<float> vectors = unit_vectors(4, 3);
  const Hash a{1, 1}, b{2, 2}, c{3, 3}, d{4, 4};
  const auto nobody = [] { FAIL() << "nobody else has it"; };
  {
    Journal journal(path, 3, kModel, nobody);
    journal.add(std::vector{a, b}, {vectors.begin(), vectors.begin() + 6});
    journal.add(std::vector{c, d}, {vectors.begin() + 6, vectors.end()});
  }
  const std::string whole = read(path);
  {
    const Journal journal(path, 3, kModel, nobody);
    ASSERT_EQ(journal.size(), 4u);
    EXPECT_TRUE(std::equal(vectors.begin() + 9, vectors.end(), journal.find(d)));
    EXPECT_EQ(journal.find({9, 9}), nullptr);
  }
  for (std::size_t size = 0; size < whole.size(); size += 3) {  // cut off anywhere
    write("j", whole.substr(0, size));
    Journal journal(path, 3, kModel, nobody);
    ASSERT_TRUE(journal.size() == 0 || journal.size() == 2) << size;
    if (journal.size() == 2) {
      EXPECT_TRUE(std::equal(vectors.begin(), vectors.begin() + 3, journal.find(a)));
    }
  }
  write("j", whole);
  EXPECT_EQ(Journal(path, 3, kSource, nobody).size(), 0u);  // another model's
}

TEST_F(LibraryFiles, WeightsAreTheSoftmaxOverAllRows) {
  constexpr int kRows = 3000, kDim = 24;
  const std::vector<float> vectors = unit_vectors(kRows, kDim);
  const Index index = Index::make(some_titles(kRows), kDim, kModel, kSource, vectors);
  std::vector<float> query(vectors.begin(), vectors.begin() + kDim);
  for (float& x : query) x *= 7;  // its length does not matter
  const Answer answer = ask(index, query, 0.1, 5);
  std::vector<double> cosines(kRows);
  double sum = 0;
  for (int r = 0; r < kRows; ++r) {
    for (int d = 0; d < kDim; ++d)
      cosines[r] += static_cast<double>(vectors[d]) * vectors[r * kDim + d];
    sum += std::exp(cosines[r] / 0.1);
  }
  ASSERT_EQ(answer.hits.size(), 5u);
  EXPECT_EQ(answer.hits[0].row, 0);
  double shown = 0;
  for (const Hit& hit : answer.hits) {
    EXPECT_NEAR(hit.score, cosines[hit.row], 1e-6);
    EXPECT_NEAR(hit.weight, std::exp(cosines[hit.row] / 0.1) / sum, 1e-5);
    shown += hit.weight;
  }
  EXPECT_NEAR(shown + answer.remainder, 1, 1e-5);
  EXPECT_EQ(ask(index, query, 0.1, 1024).hits.size(), 1024u);
  EXPECT_THROW(ask(index, std::vector<float>(3), 0.1, 5), std::invalid_argument);
  EXPECT_THROW(ask(index, query, 0, 5), std::invalid_argument);
  EXPECT_THROW(ask(index, query, std::nan(""), 5), std::invalid_argument);
  EXPECT_THROW(ask(index, std::vector<float>(kDim), 0.1, 5), std::invalid_argument);
}

// A key without a name is a column, and is chosen once: no row comes twice.
TEST_F(LibraryFiles, AnEmptyKeyIsAColumn) {
  std::string text;
  for (int i = 0; i < 250; ++i) text += R"({"": "title )" + std::to_string(i) + "\"}\n";
  const Titles titles = read_titles(write("empty.jsonl", text), {});
  EXPECT_EQ(titles.column, "");
  ASSERT_EQ(titles.rows.size(), 250u);
  EXPECT_EQ(titles.rows[249].text, "title 249");
}

TEST_F(LibraryFiles, RandomFilesNeverBreakTheReaders) {
  std::mt19937 random(3);
  const std::string alphabet = "ab,\"\t\n\r{}:[]1 \xe9\x87\x8f\xff";
  int read = 0;
  for (int i = 0; i < 400; ++i) {
    std::string text = i % 2 == 0 ? "a,b\n" : "";
    for (int size = static_cast<int>(random() % 60); size > 0; --size)
      text += alphabet[random() % alphabet.size()];
    const fs::path path = write("random", text);
    for (const char* format : {"", "tsv", "csv", "jsonl", "lines"}) try {
        const Titles titles = read_titles(path, {format, "", i % 3 != 0});
        ASSERT_FALSE(titles.rows.empty());
        for (const Title& title : titles.rows) ASSERT_GE(title.line, 1u);
        ++read;
      } catch (const std::runtime_error& error) {
        ASSERT_TRUE(std::string(error.what()).starts_with(path.string()));
      }
  }
  EXPECT_GT(read, 100);
}

}  // namespace
}  // namespace qkv::library
