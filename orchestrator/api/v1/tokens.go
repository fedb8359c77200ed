package v1

import "time"

// What a token lets its holder do.
const (
	TokenAdmin = "admin" // everything, of every tenant
	TokenCall  = "call"  // read and call, of one tenant
)

// Token tells of a token of callers over TLS, without the token itself.
type Token struct {
	ID         string     `json:"id" doc:"the audit log names its holder token:ID"`
	Name       string     `json:"name,omitempty"`
	Access     string     `json:"access" enum:"admin,call" doc:"admin: everything; call: read and call, of one tenant"`
	Tenant     string     `json:"tenant,omitempty" doc:"the only one, of access call"`
	CreatedBy  string     `json:"createdBy,omitempty"`
	CreatedAt  time.Time  `json:"createdAt"`
	ExpiresAt  *time.Time `json:"expiresAt,omitempty" doc:"absent: never"`
	LastUsedAt *time.Time `json:"lastUsedAt,omitempty" doc:"about when: noted at most once a minute"`
}

// TokenList answers a list of tokens, the oldest first.
type TokenList struct {
	Tokens []Token `json:"tokens" nullable:"false"`
	Next   string  `json:"next,omitempty" doc:"cursor of the next page, if there is one"`
}

// CreateTokenRequest asks for a token.
type CreateTokenRequest struct {
	Access string `json:"access" enum:"admin,call"`
	Tenant string `json:"tenant,omitempty" doc:"required of access call, and of no other"`
	Name   string `json:"name,omitempty" maxLength:"100" doc:"for people"`
	// ForSeconds makes it end by itself; 0 is never.
	ForSeconds int64 `json:"forSeconds,omitempty" minimum:"0" maximum:"315360000"`
}

// CreatedToken is a new token, with the token itself.
type CreatedToken struct {
	Token
	Secret string `json:"secret" doc:"what the header Authorization: Bearer takes; it is told this once"`
}
