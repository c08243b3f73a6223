//! Keys for tests only, made by openssl and used nowhere else.

/// RSA of 2048 bits: PKCS#1 in DER, base64.
pub(crate) const RSA: &str = concat!(
    "MIIEogIBAAKCAQEAqFI7NTWeM6KFhwGMlVyHFK2JZti5po5dOKZ1u5UPVem9XpoYxLvkBnfpc5wcYktKyrf/X4dYwocKXKfQYhiNrFIJC3alcf",
    "VezVsTATXUPhTXac4vx2n6ru6evz1IvdZDi66uDrkL5ezxwi9PzTKeUpC5QM8y9jn3aTWXkab5GNTDcOdU6IW+M2UyVP8VmJoRbntvXQZmlr1X",
    "QWoGt4gYWXFuVspsTvfcFrurLC38Sj3hKZmAMjtskWGy1GeD5rW43Zz4U7u5cxmfQjrLhADudee+qv7daGq3OI4Zb6lGAWutzoXaBU9xc6KR6S",
    "iw9vDQ8J6QOdq2C4VL1tEc92o56QIDAQABAoIBAB4tO/MyrS25rfHB29ftUkRpRlB7e3E6ZckhwsrCExFGig5bVyRyQRPNzLtO2iHfOMX2TeDt",
    "DYM2nat15JyppUCnJnr5Jvky0e/EK7iUU3xb1TDhZ9x7ChfxrOFBVfi+4LY6t3bpQxJSNBepzsdNk2ffDW9qlkrhopMoqgdRZahHNlOcaLDjoz",
    "ZYuxB9OnLv++FjQVeY6uruRi/ISQTjycHAQbwcMnBpeCXA8HLK10uhR0Kpsr9uP/jk3TsfsGN/Be/C/NuR6mEFlnZ47RJ0wvgbHqk/xAChBohg",
    "+c5l5KdenSa/O/2WkNOgAGqQ2bYqcHoXndV+f2wA8OCjljFAFo8CgYEA1+QQST6Dc0K/fHinnzO8evM/l4cMi9r2tlxd9eB/rJarjbBJdA5sYl",
    "F5ep9DPeZUfBh48bZIC9CNzNBypU2E+7sCk0Pe9BYSIG568GLEoD41AGK6GVgXntyzDd1zt9s91QYs6UJX+XFBsQMwpsot09jMIpUsDuXjWj7J",
    "lY/hXRcCgYEAx5e309NP6S1I9csUPIgsvL6DPOdH8V/seNM20YfZGAcv/0E5FuqloY0Fe8IVrOUf8Z+k+eAOc6xRV1M2c51PbcxbN6d4J4Jwtf",
    "X1kt84l5/xFZRVKriSeS/+8rPjrJpvVKa93nPXfFG2foMs8j1935zsf9sUfhvlci+T5x+VgP8CgYABvvRqwzio6/dEeG1SmkaB8Ampngv57ZFl",
    "NCYGYQRnTuigQra1W5CA0wvadANFMuGoB0KjIcg/YDZlW6IxuAjFSGPi8P+SlcMbxAj2fLX+XcJr+GBs6At422wPRqUy7XD4kg427LRtbf8MAW",
    "yZTLVGK1CrTu2GSVGnXy6eKQW3jQKBgB9gs66idtqimujBT2Igyl+11634ci/5M5TfJ6wTHkcPwjTvzQjURMu7/tOw9HVk4/u5bFc4KS14NqVy",
    "2ImefoE1clWyh0o20H9atourehskMuOAmU8JC0XwDLWdIDrfYIc/W3QgZA0QT49eEe/XSPWhlvCWwYb93blwz2Czb26DAoGAUWIl2yRkzrjeTh",
    "/U+ld5tiREneO7m+SvckDzlMJWG4OhCU7l+0wv6ecDyompQu5CEePKj68Xu7kH1fdCZaeTcOJLagOyzVpABJKIHxC0E1lsrazDLhXgdsiVcXvK",
    "+cIKPuzDy963cXXYVaLvOmLpOfKV6ji2J+wUfSg8HlRs42c=",
);
/// Its modulus, base64url.
pub(crate) const RSA_N: &str = concat!(
    "qFI7NTWeM6KFhwGMlVyHFK2JZti5po5dOKZ1u5UPVem9XpoYxLvkBnfpc5wcYktKyrf_X4dYwocKXKfQYhiNrFIJC3alcfVezVsTATXUPhTXac",
    "4vx2n6ru6evz1IvdZDi66uDrkL5ezxwi9PzTKeUpC5QM8y9jn3aTWXkab5GNTDcOdU6IW-",
    "M2UyVP8VmJoRbntvXQZmlr1XQWoGt4gYWXFuVspsTvfcFrurLC38Sj3hKZmAMjtskWGy1GeD5rW43Zz4U7u5cxmfQjrLhADudee-",
    "qv7daGq3OI4Zb6lGAWutzoXaBU9xc6KR6Siw9vDQ8J6QOdq2C4VL1tEc92o56Q",
);
/// The modulus of a key of 1024 bits, base64url.
pub(crate) const RSA_1024_N: &str = concat!(
    "wq7yTxVH0eF91umOSIECwLwWi2g6Vb80J8hrZzcQPJ761gTmR_TNmmbHqR-tyjT5DrAIG0tP6jQSc4EJyFz1evqNXdPbmbmcr85TmIpndAUEpD",
    "lamQJjO8dLebTdhjyEfC2elv_jU2CzEdiHk1stq5El4CoE89xZJVJEYaX855M",
);
/// EC on P-256: PKCS#8 in DER, base64.
pub(crate) const P256: &str = concat!(
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgsgvthdejan4KgCYsJGN9nxeD43lDTvDMIhG01l0GLHWhRANCAATZa4yuhA8kEx",
    "trrA4XcS12d7dYuuGwRmK4n4RalBa2w/ey1BXDd7VE7l2l3iY8oLTyl3x2nsATXTcqFXyJFm1w",
);
/// Its point.
pub(crate) const P256_X: &str = "2WuMroQPJBMba6wOF3Etdne3WLrhsEZiuJ-EWpQWtsM";
/// Its point.
pub(crate) const P256_Y: &str = "97LUFcN3tUTuXaXeJjygtPKXfHaewBNdNyoVfIkWbXA";
/// EC on P-384: PKCS#8 in DER, base64.
pub(crate) const P384: &str = concat!(
    "MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDBTYsAukhMkj2uFABR6HA5vcYJKIMxMtoKHT5CWd6XZPjX3iJIz9lnTrRixGffeM0",
    "yhZANiAAScjy68jmCSGWs00g8So8sD0dPs0gM4pxVLQUd4i9RWRJikIoMSzbG7gOUncDBlq4Fs6fYkJ4gqshjdKd7GlcYWRqVdvHkzeZ0rnjeD",
    "2RdaPX5ePMW4CFSFj2fbox+33GA=",
);
/// Its point.
pub(crate) const P384_X: &str = "nI8uvI5gkhlrNNIPEqPLA9HT7NIDOKcVS0FHeIvUVkSYpCKDEs2xu4DlJ3AwZauB";
/// Its point.
pub(crate) const P384_Y: &str = "bOn2JCeIKrIY3SnexpXGFkalXbx5M3mdK543g9kXWj1-XjzFuAhUhY9n26Mft9xg";
/// Ed25519: PKCS#8 in DER, base64.
pub(crate) const ED25519: &str = "MC4CAQAwBQYDK2VwBCIEIAzAdUyHbdLBUYholGkDM6iULY20nGajcpjLjTVrO+e6";
/// Its public key.
pub(crate) const ED25519_X: &str = "rGiFLLFRhwdY95Fci50TWugMA7SEYv1fQEj8uVi8PvA";
