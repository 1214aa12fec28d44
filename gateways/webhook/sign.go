package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lorikeet/messages"
)

// Standard Webhooks 1.0.0: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"

	secretPrefix = "whsec_"
	minSecret    = 24 // bytes
	maxSecret    = 64
	maxSecrets   = 3 // at once, while a secret is being replaced
)

// signer signs requests with every secret, so that a receiver may know the old or the new one. A nil signer signs nothing.
type signer [][]byte

// newSigner reads secrets of the form whsec_ and base64. Its errors quote none of them.
func newSigner(secrets []string) (signer, error) {
	if len(secrets) > maxSecrets {
		return nil, messages.Invalid("webhook_signing_secret", "signing_secret has %d secrets: use at most %d", len(secrets), maxSecrets)
	}
	var s signer
	for _, text := range secrets {
		encoded, ok := strings.CutPrefix(text, secretPrefix)
		key, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(key) < minSecret || len(key) > maxSecret {
			return nil, messages.Invalid("webhook_signing_secret",
				`signing_secret: use whsec_ and the base64 of %d to %d random bytes, or "generate" to have one made`, minSecret, maxSecret)
		}
		s = append(s, key)
	}
	return s, nil
}

// sign sets the three headers. id is the same for every try of a request.
func (s signer) sign(h http.Header, id string, at time.Time, body []byte) {
	if len(s) == 0 {
		return
	}
	timestamp := strconv.FormatInt(at.Unix(), 10)
	signatures := make([]string, len(s))
	for i, key := range s {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + timestamp + "."))
		mac.Write(body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	h.Set(headerID, id)
	h.Set(headerTimestamp, timestamp)
	h.Set(headerSignature, strings.Join(signatures, " "))
}
