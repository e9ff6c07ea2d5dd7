#include "models/translator.h"

#include <unicode/uscript.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <utility>

#include "attention/parallel.h"
#include "models/config.h"
#include "models/marian.h"
#include "models/search.h"

namespace qkv::models {
namespace {

// A text's pieces and the languages it goes from and to.
struct Prepared {
  Encoding encoding;
  std::vector<int> ids;
};

std::vector<int> ids_of(const std::vector<Piece>& pieces) {
  std::vector<int> ids;
  for (const Piece& piece : pieces) ids.push_back(piece.id);
  return ids;
}

bool is_blank_text(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

}  // namespace

struct Translator::Impl {
  Marian model;
  GenerationConfig generation;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::vector<HeadRole> roles;
  WatchedHead alignment;

  // The pieces of a text, with the language token that its translation needs.
  Prepared prepare(std::string_view text, std::string_view to) const {
    if (is_blank_text(text)) throw std::invalid_argument("translate: the text is empty");
    Prepared prepared;
    Encoding& encoding = prepared.encoding;
    encoding.source_language = detect_language(text);
    encoding.target_language = !to.empty()                        ? std::string(to)
                               : encoding.source_language == "zh" ? "en"
                                                                  : "zh";
    std::string token;
    if (!tokenizer->language_tokens().empty()) {  // a model for one direction has none
      token = ">>" + encoding.target_language + "<<";
      if (tokenizer->id_of(token) < 0)
        throw std::invalid_argument("translate: the model does not translate to '" +
                                    encoding.target_language + "'; it has " + languages());
    }
    encoding.pieces = tokenizer->encode(text, token);
    prepared.ids = ids_of(encoding.pieces);
    const int most = model.config().max_position_embeddings;
    if (std::ssize(prepared.ids) > most)
      throw std::invalid_argument("translate: the text has " + std::to_string(prepared.ids.size()) +
                                  " pieces; the model reads at most " + std::to_string(most));
    return prepared;
  }

  std::string languages() const {
    std::string all;
    for (const std::string& token : tokenizer->language_tokens())
      all += (all.empty() ? "" : ", ") + token.substr(2, token.size() - 4);
    return all;
  }

  GenerationConfig generation_for(const TranslateOptions& options) const {
    if (options.beams < 0 || options.beams > 1024)
      throw std::invalid_argument("translate: beams: expected 0 to 1024, got " +
                                  std::to_string(options.beams));
    if (options.batch < 1)
      throw std::invalid_argument("translate: batch: expected at least 1, got " +
                                  std::to_string(options.batch));
    GenerationConfig config = generation;
    if (options.beams > 0) config.num_beams = options.beams;
    return config;
  }

  // Translations of prepared[order[i]] for i in [first, last), written to results.
  void run(std::span<Prepared> prepared, std::span<const std::size_t> batch,
           const GenerationConfig& config, const TranslateOptions& options, int threads,
           std::span<Translation> results) const {
    std::vector<std::vector<int>> ids;
    for (const std::size_t i : batch) ids.push_back(prepared[i].ids);
    std::vector<SearchResult> found =
        search(model, model.encode(ids, threads), config, options.alignment ? &alignment : nullptr,
               threads, options.stop);
    for (std::size_t i = 0; i < batch.size(); ++i) {
      Translation& translation = results[batch[i]];
      Encoding& encoding = prepared[batch[i]].encoding;
      translation.source_language = std::move(encoding.source_language);
      translation.target_language = std::move(encoding.target_language);
      translation.source = std::move(encoding.pieces);
      translation.text = tokenizer->decode(found[i].ids, &translation.target);
      translation.alignment = std::move(found[i].alignment);
      translation.score = found[i].score;
      translation.cut = found[i].cut;
    }
  }
};

Translator::Translator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Translator::Translator(Translator&&) noexcept = default;
Translator& Translator::operator=(Translator&&) noexcept = default;
Translator::~Translator() = default;

Translator Translator::load(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder))
    throw std::runtime_error(folder.string() + ": is not a folder");
  Marian model = Marian::load(folder);
  GenerationConfig generation = GenerationConfig::load(folder, model.config());
  std::vector<HeadRole> roles = load_roles(folder);
  // Without a measured head: the mean of the last layer's.
  WatchedHead alignment{model.config().decoder_layers - 1, -1};
  const HeadRole* role = find_role(roles, "alignment");
  if (role != nullptr && role->block == "decoder_cross") {
    if (role->layer >= model.config().decoder_layers ||
        role->head >= model.config().decoder_attention_heads)
      throw std::runtime_error((folder / "roles.json").string() +
                               ": the model has no decoder layer " + std::to_string(role->layer) +
                               " with a head " + std::to_string(role->head));
    alignment = {role->layer, role->head};
  }
  return Translator(std::unique_ptr<Impl>(new Impl{
      std::move(model), std::move(generation),
      std::make_shared<const Tokenizer>(Tokenizer::load(folder)), std::move(roles), alignment}));
}

Translator Translator::untrained(std::uint64_t seed) const {
  const MarianConfig& config = impl_->model.config();
  const std::int64_t blank = impl_->generation.pad_token_id.value_or(-1);
  return Translator(std::unique_ptr<Impl>(new Impl{Marian::untrained(config, seed, blank),
                                                   impl_->generation,
                                                   impl_->tokenizer,
                                                   {},
                                                   WatchedHead{config.decoder_layers - 1, -1}}));
}

Translation Translator::translate(std::string_view text, const TranslateOptions& options) const {
  const GenerationConfig config = impl_->generation_for(options);
  Prepared prepared = impl_->prepare(text, options.to);
  Translation result;
  const std::size_t only = 0;
  impl_->run(std::span(&prepared, 1), std::span(&only, 1), config, options, options.threads,
             std::span(&result, 1));
  if (options.progress) options.progress(1, 1);
  return result;
}

std::vector<Translation> Translator::translate(std::span<const std::string> texts,
                                               const TranslateOptions& options) const {
  const GenerationConfig config = impl_->generation_for(options);
  std::vector<Translation> results(texts.size());
  std::vector<Prepared> prepared(texts.size());
  std::vector<std::size_t> order;  // of the texts that have something to translate
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (is_blank_text(texts[i])) continue;
    try {
      prepared[i] = impl_->prepare(texts[i], options.to);
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument("text " + std::to_string(i + 1) + ": " + error.what());
    }
    order.push_back(i);
  }
  // Sentences of like length together, so that little is padding; the long ones first, so that no thread ends late.
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return prepared[a].ids.size() > prepared[b].ids.size();
  });

  // Threads take whole batches each: nobody waits for anybody within a step.
  const std::size_t workers =
      static_cast<std::size_t>(thread_count(options.threads, std::ssize(order)));
  const std::size_t even = (order.size() + workers - 1) / std::max<std::size_t>(workers, 1);
  const std::size_t size =
      std::clamp<std::size_t>(even, 1, static_cast<std::size_t>(options.batch));
  const auto batches = static_cast<std::int64_t>((order.size() + size - 1) / size);
  std::mutex progress;
  std::size_t done = texts.size() - order.size();
  parallel_for(static_cast<int>(workers), batches, [&](std::int64_t b) {
    const std::size_t first = static_cast<std::size_t>(b) * size;
    const auto batch = std::span(order).subspan(first, std::min(size, order.size() - first));
    impl_->run(prepared, batch, config, options, 1, results);
    const std::lock_guard lock(progress);
    done += batch.size();
    if (options.progress) options.progress(done, texts.size());
  });
  return results;
}

Encoding Translator::encode(std::string_view text, layers::AttentionTape* tape,
                            std::string_view to) const {
  Prepared prepared = impl_->prepare(text, to);
  Marian::Memory memory = impl_->model.encode(std::span(&prepared.ids, 1), 0, tape);
  prepared.encoding.states.assign(memory.states.begin(), memory.states.end());
  return std::move(prepared.encoding);
}

void Translator::replay(const Translation& translation, layers::AttentionTape& tape) const {
  const std::vector<int> source = ids_of(translation.source);
  std::vector<int> target = ids_of(translation.target);
  if (target.empty()) throw std::invalid_argument("replay: the translation is empty");
  // What the decoder read when it wrote target[i]: the start id, then all before i.
  target.insert(target.begin(), impl_->generation.decoder_start_token_id);
  target.pop_back();
  const Marian::Memory memory = impl_->model.encode(std::span(&source, 1), 0, &tape);
  impl_->model.decode(memory, target, 0, nullptr, &tape);
}

std::string Translator::detect_language(std::string_view text) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  const auto length = static_cast<std::int32_t>(std::min<std::size_t>(text.size(), INT32_MAX));
  for (std::int32_t i = 0; i < length;) {
    UChar32 character;
    U8_NEXT(bytes, i, length, character);
    UErrorCode status = U_ZERO_ERROR;
    if (character >= 0 && uscript_getScript(character, &status) == USCRIPT_HAN) return "zh";
  }
  return "en";
}

const std::vector<HeadRole>& Translator::roles() const { return impl_->roles; }
const Tokenizer& Translator::tokenizer() const { return *impl_->tokenizer; }
int Translator::encoder_layers() const { return impl_->model.config().encoder_layers; }
int Translator::encoder_heads() const { return impl_->model.config().encoder_attention_heads; }
int Translator::decoder_layers() const { return impl_->model.config().decoder_layers; }
int Translator::decoder_heads() const { return impl_->model.config().decoder_attention_heads; }
int Translator::max_pieces() const { return impl_->model.config().max_position_embeddings; }

}  // namespace qkv::models
