from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from sandbox.controlplane.certificates import Certificates


def test_a_client_is_who_its_certificate_names_and_signed_by_the_ca(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    certificate, key = made.client("system:kube-scheduler", "system:masters")
    read = x509.load_pem_x509_certificate(certificate.read_bytes())
    read.verify_directly_issued_by(x509.load_pem_x509_certificate(made.ca.read_bytes()))
    assert read.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:kube-scheduler"
    assert read.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:masters"
    assert key.stat().st_mode & 0o077 == 0


def test_two_authorities_do_not_vouch_for_each_other(tmp_path: Path) -> None:
    first, second = Certificates(tmp_path / "1"), Certificates(tmp_path / "2")
    assert first.ca.read_bytes() != second.ca.read_bytes()
