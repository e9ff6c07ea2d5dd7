#include "library/library.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <unordered_map>

#include "qkv/attention.h"

namespace qkv::library {
namespace {

namespace fs = std::filesystem;

// Titles between two writes of the journal: what an interruption costs, a second or so.
constexpr std::size_t kTitlesAtOnce = 512;

// To length 1, so that a dot product is the cosine.
void to_length_one(std::span<float> vector) {
  double sum = 0;
  for (const float x : vector) sum += static_cast<double>(x) * x;
  if (!(sum > 0) || !std::isfinite(sum))
    throw std::invalid_argument("the model gives a vector without a direction");
  const auto factor = static_cast<float>(1 / std::sqrt(sum));
  for (float& x : vector) x *= factor;
}

// What is known of a text from before.
class Known {
 public:
  Known(const std::optional<Index>& old, const std::optional<Journal>& journal)
      : journal_(journal) {
    if (!old) return;
    for (std::int64_t row = 0; row < old->rows(); ++row)
      old_.try_emplace(hash_of(old->title(row)), old->vectors() + row * old->dim());
  }
  const float* find(const Hash& text) const {
    if (const auto found = old_.find(text); found != old_.end()) return found->second;
    return journal_ ? journal_->find(text) : nullptr;
  }

 private:
  const std::optional<Journal>& journal_;
  std::unordered_map<Hash, const float*, HashOfHash> old_;
};

}  // namespace

Index open_index(const Source& source, const models::SentenceEncoder& encoder,
                 const IndexOptions& options, const Progress& progress, std::string& note) {
  const Hash model = hash_of_files(encoder.files());
  const Hash from = hash_of_files(source.files, source.settings);
  const std::int64_t dim = encoder.dim();
  const auto usable = [&](const std::optional<Index>& index) {
    return index && index->model() == model && index->dim() == dim;
  };
  std::optional<Index> old = Index::open(options.path);
  if (usable(old) && old->source() == from) return *std::move(old);

  std::optional<Journal> journal;
  bool keep = true;  // on disk
  const auto failed = [&](const std::exception& error) {
    if (!options.may_fail) throw std::runtime_error(error.what());
    note = error.what();
    keep = false;
  };
  try {
    if (options.path.has_parent_path()) fs::create_directories(options.path.parent_path());
    journal.emplace(options.path.string() + ".partial", dim, model, progress.waiting);
    old = Index::open(options.path);  // another process may have made it meanwhile
    if (usable(old) && old->source() == from) {
      journal->remove();
      return *std::move(old);
    }
  } catch (const std::runtime_error& error) {
    failed(error);
  }
  if (!usable(old)) old.reset();

  const Titles titles = source.read();
  std::vector<Hash> hashes;
  for (const Title& title : titles.rows) hashes.push_back(hash_of(title.text));
  const Known known(old, journal);
  std::vector<float> vectors(hashes.size() * static_cast<std::size_t>(dim));
  std::unordered_map<Hash, std::size_t, HashOfHash> first;  // rows of texts that need a vector
  std::vector<std::size_t> missing;
  for (std::size_t row = 0; row < hashes.size(); ++row)
    if (known.find(hashes[row]) == nullptr && first.try_emplace(hashes[row], row).second)
      missing.push_back(row);
  const auto place = [&](std::size_t row) {
    return vectors.data() + row * static_cast<std::size_t>(dim);
  };

  if (journal && journal->size() > 0)
    progress.resumed(journal->size(), journal->size() + missing.size());
  for (std::size_t done = 0; done < missing.size();) {
    progress.show(done, missing.size());
    const std::size_t count = std::min(kTitlesAtOnce, missing.size() - done);
    std::vector<std::string_view> texts;
    std::vector<Hash> keys;
    for (std::size_t i = done; i < done + count; ++i) {
      texts.emplace_back(titles.rows[missing[i]].text);
      keys.push_back(hashes[missing[i]]);
    }
    std::vector<float> made(count * static_cast<std::size_t>(dim));
    encoder.embed(texts, models::TextRole::document, made.data(), options.threads);
    for (std::size_t i = 0; i < count; ++i) {
      const std::span<float> one(made.data() + i * static_cast<std::size_t>(dim),
                                 static_cast<std::size_t>(dim));
      to_length_one(one);
      std::copy(one.begin(), one.end(), place(missing[done + i]));
    }
    if (keep) {
      try {
        journal->add(keys, std::move(made));
      } catch (const std::runtime_error& error) {
        failed(error);
      }
    }
    done += count;
  }
  progress.show(missing.size(), missing.size());
  for (std::size_t row = 0; row < hashes.size(); ++row) {
    const auto own = first.find(hashes[row]);
    if (own != first.end() && own->second == row) continue;
    const float* vector = own != first.end() ? place(own->second) : known.find(hashes[row]);
    std::copy_n(vector, dim, place(row));
  }
  Index index = Index::make(titles, dim, model, from, std::move(vectors));
  if (!keep) return index;
  try {
    index.write(options.path);
    journal->remove();
  } catch (const std::runtime_error& error) {
    failed(error);
  }
  return index;
}

Answer ask(const Index& index, std::span<const float> query, double temperature, int top,
           int threads) {
  if (std::ssize(query) != index.dim())
    throw std::invalid_argument("ask: expected a query of " + std::to_string(index.dim()) +
                                " numbers, got " + std::to_string(query.size()));
  if (!(temperature > 0) || !std::isfinite(temperature))
    throw std::invalid_argument("ask: expected a temperature above 0, got " +
                                std::to_string(temperature));
  std::vector<float> q(query.begin(), query.end());
  to_length_one(q);

  const std::int64_t rows = index.rows(), dim = index.dim();
  const float one = 1;  // the value of every row: what is asked for is the weights
  float total = 0;
  Trace trace;
  AttentionOptions options;
  options.scale = static_cast<float>(1 / temperature);
  options.threads = threads;
  options.trace.top = static_cast<int>(std::min<std::int64_t>(top, rows));
  AttentionOutput output;
  output.out = {&total, {1, 1, 1, 1}};
  output.trace = &trace;
  attention({q.data(), {1, 1, 1, dim}}, {index.vectors(), {1, 1, rows, dim}},
            {&one, {1, 1, rows, 1}, {0, 0, 0, 1}}, options, output);

  Answer answer;
  answer.entropy = trace.entropy[0];
  answer.remainder = std::max(0.0f, trace.remainder[0]);
  for (int i = 0; i < options.trace.top; ++i) {
    Hit hit;
    hit.row = trace.top_keys[static_cast<std::size_t>(i)];
    hit.weight = trace.top_weights[static_cast<std::size_t>(i)];
    if (hit.row < 0) break;
    for (std::int64_t d = 0; d < dim; ++d)
      hit.score +=
          static_cast<double>(q[static_cast<std::size_t>(d)]) * index.vectors()[hit.row * dim + d];
    answer.hits.push_back(hit);
  }
  if (std::ssize(answer.hits) == rows) answer.remainder = 0;
  return answer;
}

}  // namespace qkv::library
