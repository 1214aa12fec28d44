package v3

import (
	"errors"
	"net/http"

	"lorikeet/messages"
)

// codes maps a class of refusal to gRPC's number and HTTP's status, as The Things Stack does.
var codes = map[messages.Code]struct {
	grpc Uint32
	http int
}{
	messages.CodeInternal:        {13, http.StatusInternalServerError},
	messages.CodeInvalid:         {3, http.StatusBadRequest},
	messages.CodeNotFound:        {5, http.StatusNotFound},
	messages.CodeConflict:        {6, http.StatusConflict},
	messages.CodePrecondition:    {9, http.StatusBadRequest},
	messages.CodeUnauthenticated: {16, http.StatusUnauthorized},
	messages.CodeForbidden:       {7, http.StatusForbidden},
	messages.CodeExhausted:       {8, http.StatusTooManyRequests},
	messages.CodeUnavailable:     {14, http.StatusServiceUnavailable},
}

// HTTPStatus of a class of refusal.
func HTTPStatus(c messages.Code) int { return codes[c].http }

// DetailsOf describes an error in the words of The Things Stack; namespace is without "pkg/". Of an internal error it shows nothing.
func DetailsOf(namespace string, err error) *ErrorDetails {
	d := &ErrorDetails{Namespace: "pkg/" + namespace, Name: "internal", MessageFormat: "internal error", Code: codes[messages.CodeInternal].grpc}
	var e *messages.Error
	if !errors.As(err, &e) || e.Code == messages.CodeInternal {
		return d
	}
	d.Name, d.MessageFormat, d.Code = e.Name, e.Message, codes[e.Code].grpc
	if e.Cause != nil {
		d.Cause = DetailsOf(namespace, e.Cause)
	}
	return d
}
