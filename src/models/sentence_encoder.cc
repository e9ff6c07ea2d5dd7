#include "models/sentence_encoder.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <map>
#include <stdexcept>
#include <utility>

#include "attention/parallel.h"
#include "models/bert.h"
#include "models/json_file.h"
#include "models/text_tokenizer.h"

namespace qkv::models {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Texts that a thread takes at once, and tokens that go through the layers together: their hidden states stay in the cache.
constexpr std::size_t kTextsAtOnce = 64;
constexpr std::size_t kTokensAtOnce = 512;

enum class Pooling : std::uint8_t { mean, cls, max };

Pooling pooling_of(const JsonFile& file) {
  static const std::map<std::string, Pooling, std::less<>> kKnown = {
      {"mean", Pooling::mean}, {"cls", Pooling::cls}, {"max", Pooling::max}};
  std::vector<std::string> modes;
  if (const json* mode = file.find("pooling_mode"); mode != nullptr) {
    if (mode->is_string()) {
      modes.push_back(*mode);
    } else if (mode->is_array() && std::all_of(mode->begin(), mode->end(),
                                               [](const json& one) { return one.is_string(); })) {
      modes = mode->get<std::vector<std::string>>();
    } else {
      file.fail("pooling_mode", "expected a name, got " + mode->dump());
    }
  } else {  // one switch for each, as sentence-transformers wrote it up to version 5
    for (const auto& [key, name] :
         {std::pair{"pooling_mode_cls_token", "cls"}, std::pair{"pooling_mode_max_tokens", "max"},
          std::pair{"pooling_mode_mean_tokens", "mean"},
          std::pair{"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"},
          std::pair{"pooling_mode_weightedmean_tokens", "weightedmean"},
          std::pair{"pooling_mode_lasttoken", "lasttoken"}})
      if (file.boolean(key, false)) modes.emplace_back(name);
    if (modes.empty()) modes.emplace_back("mean");
  }
  if (modes.size() != 1) file.fail("pooling_mode", "several modes side by side are not supported");
  const auto known = kKnown.find(modes.front());
  if (known == kKnown.end())
    file.fail("pooling_mode", "expected mean, cls or max, got \"" + modes.front() + "\"");
  return known->second;
}

void normalise(std::span<float> vector) {
  double sum = 0;
  for (const float x : vector) sum += static_cast<double>(x) * x;
  const auto factor = static_cast<float>(1 / std::max(std::sqrt(sum), 1e-12));
  for (float& x : vector) x *= factor;
}

}  // namespace

struct SentenceEncoder::Impl {
  Bert model;
  std::unique_ptr<const TextTokenizer> tokenizer;
  Pooling pooling = Pooling::mean;
  bool normalised = false;
  std::size_t most = 0;
  std::map<TextRole, std::string> prompts;
  std::vector<fs::path> files;

  void read_modules(const fs::path& folder, fs::path& transformer);
  void read_prompts(const fs::path& path);

  std::string_view with_prompt(std::string_view text, TextRole role, std::string& store) const {
    const auto prompt = prompts.find(role);
    if (prompt == prompts.end()) return text;
    store = prompt->second + std::string(text);
    return store;
  }

  // states [count, dim] → out [dim]
  void pool(const float* states, std::int64_t count, float* out) const {
    const std::int64_t dim = model.config().hidden_size;
    std::copy_n(states, dim, out);
    for (std::int64_t t = 1; t < count && pooling != Pooling::cls; ++t)
      for (std::int64_t d = 0; d < dim; ++d) {
        const float x = states[t * dim + d];
        out[d] = pooling == Pooling::mean ? out[d] + x : std::max(out[d], x);
      }
    if (pooling == Pooling::mean)
      for (std::int64_t d = 0; d < dim; ++d) out[d] /= static_cast<float>(count);
    if (normalised) normalise({out, static_cast<std::size_t>(dim)});
  }

  struct Work {
    std::vector<int> ids;
    std::vector<std::int32_t> starts;
    layers::Buffer states;
    Bert::Scratch scratch;
    std::string prompted;
  };

  // texts [first, last) → out
  void embed(std::span<const std::string_view> texts, std::size_t first, std::size_t last,
             TextRole role, float* out, int threads, Work& work) const {
    const std::int64_t dim = model.config().hidden_size;
    for (std::size_t next = first; next < last;) {
      work.ids.clear();
      work.starts.assign(1, 0);
      const std::size_t begin = next;
      for (; next < last && work.ids.size() < kTokensAtOnce; ++next) {
        try {
          tokenizer->encode(with_prompt(texts[next], role, work.prompted), most, work.ids);
        } catch (const std::invalid_argument& error) {
          throw std::invalid_argument("text " + std::to_string(next + 1) + ": " + error.what());
        }
        work.starts.push_back(static_cast<std::int32_t>(work.ids.size()));
      }
      float* states = layers::at_least(work.states, std::ssize(work.ids) * dim);
      model.forward(work.ids, work.starts, states, work.scratch, threads);
      for (std::size_t i = begin; i < next; ++i) {
        const std::int64_t from = work.starts[i - begin], to = work.starts[i - begin + 1];
        pool(states + from * dim, to - from, out + static_cast<std::int64_t>(i) * dim);
      }
    }
  }
};

// modules.json lists what follows what, each with a folder for its settings.
void SentenceEncoder::Impl::read_modules(const fs::path& folder, fs::path& transformer) {
  const fs::path list = folder / "modules.json";
  if (!fs::exists(list)) return;
  files.push_back(list);
  const json modules = read_json(list);
  const auto fail = [&](const std::string& what) {
    throw std::runtime_error(list.string() + ": " + what);
  };
  if (!modules.is_array() || modules.empty()) fail("expected a list of modules");
  std::vector<std::string> kinds;
  for (const json& module : modules) {
    if (!module.is_object() || !module.contains("type") || !module["type"].is_string())
      fail("type: expected a string, got " + module.dump());
    const json& path = module.contains("path") ? module["path"] : json("");
    const fs::path inside = path.is_string() ? path.get<std::string>() : "..";
    if (inside.is_absolute() || std::find(inside.begin(), inside.end(), "..") != inside.end())
      fail("path: expected a folder inside of this one, got " + path.dump());
    const std::string type = module["type"];
    kinds.push_back(type.substr(type.find_last_of('.') + 1));
    if (kinds.back() == "Transformer" && kinds.size() == 1) {
      transformer = folder / inside;
    } else if (kinds.back() == "Pooling" && kinds.size() == 2) {
      files.push_back(folder / inside / "config.json");
      pooling = pooling_of(JsonFile(files.back()));
    } else if (kinds.back() == "Normalize" && kinds.size() == 3) {
      normalised = true;
    } else {
      fail("type: expected Transformer, Pooling and, if at all, Normalize; \"" + type +
           "\" as number " + std::to_string(kinds.size()) + " is not supported");
    }
  }
  if (kinds.size() < 2) fail("expected Transformer and Pooling");
}

void SentenceEncoder::Impl::read_prompts(const fs::path& path) {
  if (!fs::exists(path)) return;
  files.push_back(path);
  const JsonFile file(path);
  const json* all = file.find("prompts");
  if (all == nullptr) return;
  if (!all->is_object()) file.fail("prompts", "expected an object, got " + all->dump());
  const auto take = [&](TextRole role, const std::string& name) {
    const auto found = all->find(name);
    if (found == all->end() || found->is_null() || prompts.contains(role)) return;
    if (!found->is_string())
      file.fail("prompts", name + ": expected a string, got " + found->dump());
    if (!found->get_ref<const std::string&>().empty()) prompts[role] = *found;
  };
  take(TextRole::query, "query");
  take(TextRole::document, "document");
  if (file.find("default_prompt_name") != nullptr)
    take(TextRole::plain, file.string("default_prompt_name"));
}

SentenceEncoder::SentenceEncoder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SentenceEncoder::SentenceEncoder(SentenceEncoder&&) noexcept = default;
SentenceEncoder& SentenceEncoder::operator=(SentenceEncoder&&) noexcept = default;
SentenceEncoder::~SentenceEncoder() = default;

SentenceEncoder SentenceEncoder::load(const fs::path& folder) {
  if (!fs::is_directory(folder)) throw std::runtime_error(folder.string() + ": is not a folder");
  auto impl = std::make_unique<Impl>();
  fs::path transformer = folder;
  impl->read_modules(folder, transformer);
  impl->read_prompts(folder / "config_sentence_transformers.json");
  // side by side: each takes half of what a start takes; of two errors the model's is told, whichever comes first
  std::exception_ptr unreadable;
  parallel_for(0, 2, [&](std::int64_t part) {
    if (part == 0) {
      impl->model = Bert::load(transformer);
      return;
    }
    try {
      impl->tokenizer = load_text_tokenizer(transformer);
    } catch (...) {
      unreadable = std::current_exception();
    }
  });
  if (unreadable) std::rethrow_exception(unreadable);

  const BertConfig& config = impl->model.config();
  if (impl->tokenizer->size() > config.vocab_size)
    throw std::runtime_error((transformer / "config.json").string() + ": vocab_size: " +
                             std::to_string(config.vocab_size) + ", but the tokenizer has " +
                             std::to_string(impl->tokenizer->size()) + " pieces");
  int most = config.max_tokens;
  if (impl->tokenizer->model_max_length() > 0)
    most = std::min(most, impl->tokenizer->model_max_length());
  if (const fs::path path = transformer / "sentence_bert_config.json"; fs::exists(path)) {
    impl->files.push_back(path);
    const JsonFile file(path);
    // instead of the tokenizer's own length
    most = std::min(config.max_tokens, file.integer("max_seq_length", 2, 1 << 30, most));
    if (file.boolean("do_lower_case", false))
      file.fail("do_lower_case", "true is not supported; it belongs into tokenizer_config.json");
  }
  impl->most = static_cast<std::size_t>(most);
  for (const char* name :
       {"config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "tokenizer_config.json"})
    if (fs::exists(transformer / name)) impl->files.push_back(transformer / name);
  return SentenceEncoder(std::move(impl));
}

int SentenceEncoder::dim() const { return impl_->model.config().hidden_size; }
int SentenceEncoder::max_pieces() const { return static_cast<int>(impl_->most); }
const std::vector<fs::path>& SentenceEncoder::files() const { return impl_->files; }

void SentenceEncoder::embed(std::span<const std::string_view> texts, TextRole role, float* out,
                            int threads) const {
  const auto batches = (texts.size() + kTextsAtOnce - 1) / kTextsAtOnce;
  if (batches <= 1) {  // the threads share each layer instead
    Impl::Work work;
    impl_->embed(texts, 0, texts.size(), role, out, threads, work);
    return;
  }
  const int workers = thread_count(threads, static_cast<std::int64_t>(batches));
  std::atomic<std::size_t> next = 0;
  parallel_for(workers, workers, [&](std::int64_t) {
    Impl::Work work;
    for (std::size_t batch = next++; batch < batches; batch = next++)
      impl_->embed(texts, batch * kTextsAtOnce, std::min(texts.size(), (batch + 1) * kTextsAtOnce),
                   role, out, 1, work);
  });
}

std::vector<float> SentenceEncoder::embed(std::string_view text, TextRole role, int threads) const {
  std::vector<float> out(static_cast<std::size_t>(dim()));
  embed(std::span(&text, 1), role, out.data(), threads);
  return out;
}

TokenStates SentenceEncoder::tokens(std::string_view text, TextRole role, int threads) const {
  std::string store;
  const std::string_view prompted = impl_->with_prompt(text, role, store);
  const std::size_t shift = prompted.size() - text.size();
  TokenStates result;
  result.pieces = impl_->tokenizer->encode(prompted, impl_->most);
  std::vector<int> ids;
  for (Piece& piece : result.pieces) {
    ids.push_back(piece.id);
    if (piece.begin < shift) piece.special = true;
    piece.begin = std::max(piece.begin, shift) - shift;
    piece.end = std::max(piece.end, shift) - shift;
  }
  const std::int32_t starts[] = {0, static_cast<std::int32_t>(ids.size())};
  result.states.resize(ids.size() * static_cast<std::size_t>(dim()));
  Bert::Scratch scratch;
  impl_->model.forward(ids, starts, result.states.data(), scratch, threads);
  return result;
}

}  // namespace qkv::models
