package rest

import (
	"slices"
	"strings"

	v3 "lorikeet/messages/v3"
)

// keepSecrets has a write keep the secrets of a pub/sub integration that it does not give anew; nobody can read them, so nobody has to send them.
func keepSecrets(req request[v3.PubSub], old v3.PubSub, p *v3.PubSub) error {
	return p.KeepSecrets(old, func(path string) bool {
		names := strings.Split(path, ".")
		if len(names) > 3 { // the name of a header may have dots
			names = append(names[:2:2], strings.Join(names[2:], "."))
		}
		return req.paths == nil && present(req.fields, names) || slices.Contains(req.paths, path) ||
			req.paths != nil && overlaps(req.paths, path) && present(req.fields, names)
	})
}

// present says whether a request holds a member at path, be it empty or null.
func present(t tree, path []string) bool {
	value, ok := t[path[0]]
	if !ok || len(path) == 1 {
		return ok
	}
	inner, isTree := value.(tree)
	return isTree && present(inner, path[1:])
}
